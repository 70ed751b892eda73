"""The official splits, and what an incomplete download is told."""

import pytest

from cigocc_ros.core.errors import ConfigError, DataFileError
from cigocc_ros.data.kitti_layout import (
    IMAGES,
    SPLITS,
    VOXEL_INVALID,
    VOXEL_LABELS,
    FrameKey,
    frames_to_predict,
    labelled_frames,
    require_files,
    sequence_folder,
)


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def test_splits_have_the_published_numbers_of_samples():
    assert len(labelled_frames(SPLITS['train'])) == 3834
    assert len(labelled_frames(SPLITS['val'])) == 815
    every = [name for names in SPLITS.values() for name in names]
    assert sorted(every) == [f'{number:02d}' for number in range(22)]
    assert labelled_frames(['08'])[1] == FrameKey('08', '000005')
    with pytest.raises(ConfigError, match="sequence '11'"):
        labelled_frames(['11'])


def test_a_root_may_be_given_at_three_depths(tmp_path):
    sequence = tmp_path / 'sequences' / '08'
    sequence.mkdir(parents=True)
    for root in (tmp_path, tmp_path / 'sequences', sequence):
        assert sequence_folder(root, '08') == sequence
    assert sequence_folder(tmp_path, '09') == tmp_path / 'sequences' / '09'


def test_frames_to_predict_are_those_with_scans(tmp_path):
    for name in ('000010', '000000'):
        touch(tmp_path / 'sequences/11/voxels' / f'{name}.bin')
    keys = frames_to_predict(tmp_path, ['11'])
    assert keys == (FrameKey('11', '000000'), FrameKey('11', '000010'))
    with pytest.raises(DataFileError, match=r'12/voxels: expected 000000.bin.*unpack data_odom'):
        frames_to_predict(tmp_path, ['11', '12'])


def test_missing_files_are_counted_by_sequence_and_archive(tmp_path):
    frames = [FrameKey('08', f'{i:06d}') for i in (0, 5, 10)]
    for name in ('image_2/000000.png', 'image_2/000005.jpg', 'image_2/000010.png', 'times.txt'):
        touch(tmp_path / 'sequences/08' / name)
    touch(tmp_path / 'sequences/08/voxels/000000.label')
    with pytest.raises(DataFileError) as caught:
        require_files(tmp_path, frames, (IMAGES, VOXEL_LABELS, VOXEL_INVALID))
    text = str(caught.value)
    assert f'08/voxels/*.label: 2 of 3 missing (000005, 000010): {VOXEL_LABELS.archive}' in text
    assert '08/voxels/*.invalid: 3 of 3 missing' in text
    assert '08/calib.txt: missing: data_odometry_calib.zip' in text
    assert 'image_2' not in text and 'times.txt' not in text


def test_a_complete_download_passes(tmp_path):
    for name in ('calib.txt', 'times.txt', 'image_2/000000.png'):
        touch(tmp_path / 'sequences/08' / name)
    require_files(tmp_path, [FrameKey('08', '000000')], (IMAGES,))
