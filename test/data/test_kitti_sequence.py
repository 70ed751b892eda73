"""A sequence folder: what is there, what may be missing, and real recordings."""

import shutil

import numpy as np
import pytest
from fixtures_sequence import P2, P3, SIZE, TR, build_sequence

from cigocc_ros.core.camera import stereo_focal_baseline
from cigocc_ros.core.errors import CalibrationError, DataFileError
from cigocc_ros.core.projection import project_points
from cigocc_ros.data import kitti_files
from cigocc_ros.data.camera_frames import sequence_prior
from cigocc_ros.data.image_files import read_image, write_image
from cigocc_ros.data.kitti_layout import FrameKey, find_sequences
from cigocc_ros.data.kitti_sequence import KittiSequence
from cigocc_ros.data.rig import rig_of_sequence
from cigocc_ros.evaluation.ground_truth import LabelVolumes


@pytest.fixture
def folder(tmp_path):
    return build_sequence(tmp_path / 'sequences/07')


def test_everything_of_a_frame_is_read(folder):
    sequence = KittiSequence(folder)
    assert sequence.name == '07'
    assert sequence.frame_ids == ('000000', '000001', '000002')
    assert len(sequence) == 3
    assert (sequence.camera_left.height, sequence.camera_left.width) == SIZE
    np.testing.assert_array_equal(sequence.camera_left.projection, P2)
    np.testing.assert_array_equal(sequence.camera_right.projection, P3)
    np.testing.assert_array_equal(sequence.cam_from_velo[:3], TR)
    assert stereo_focal_baseline(sequence.camera_left, sequence.camera_right) == 80.0
    assert sequence.stamp_ns('000002') == 200_000_000
    np.testing.assert_array_equal(sequence.image(1), read_image(folder / 'image_2/000001.png'))
    right = sequence.image('000001', 'right')
    np.testing.assert_array_equal(right, read_image(folder / 'image_3/000001.png'))
    assert sequence.depth(2)[1, 1] == 12.0
    assert sequence.velodyne(0).shape == (20, 4)


def test_voxels_are_train_ids_with_invalid_as_255(folder):
    labels = KittiSequence(folder).voxel_labels('000000')
    assert labels.dtype == np.uint8
    assert labels[10, 20, 3] == 9
    assert labels[11, 20, 3] == 1
    assert (labels[12] == 255).all()
    assert labels[0, 0, 0] == 0


def test_only_the_left_images_are_needed(folder):
    for name in ('image_3', 'depth_2', 'velodyne', 'voxels'):
        shutil.rmtree(folder / name)
    kitti_files.write_calib(folder / 'calib.txt', {'P2': P2, 'Tr': TR})
    sequence = KittiSequence(folder)
    assert not sequence.has_right
    assert not sequence.has_poses
    assert sequence.voxel_ids == ()
    assert not sequence.has_depth(0)
    assert not sequence.has_velodyne(0)
    assert not sequence.has_semantic_image(0)
    assert not sequence.has_point_labels(0)
    assert not sequence.has_voxel_bits(0, 'bin')
    assert sequence.image(0).shape == (*SIZE, 3)
    for read in (sequence.depth, sequence.velodyne, sequence.voxel_labels, sequence.point_labels):
        with pytest.raises(DataFileError, match='cannot be read'):
            read(0)
    with pytest.raises(CalibrationError, match='has no P3'):
        _ = sequence.camera_right


def test_voxels_of_every_second_frame(folder):
    (folder / 'voxels/000001.label').unlink()
    assert KittiSequence(folder).voxel_ids == ('000000', '000002')


def test_a_right_image_less_is_no_stereo_and_is_named(folder, caplog):
    (folder / 'image_3/000002.png').unlink()
    sequence = KittiSequence(folder)
    assert not sequence.has_right and sequence.frames_without_right == ('000002',)
    says = r'image_3/\*\.png: 1 of 3 missing \(000002\): data_odometry_color\.zip'
    for source in ('auto', 'stereo'):  # to map it without depth, unasked, would look right
        with pytest.raises(DataFileError, match=says + '.*choose the prior none'):
            sequence_prior(sequence, source)
        assert sequence_prior(sequence, source, ['000000']) == 'stereo'
    assert rig_of_sequence(sequence).right is None
    assert '1 of 3 missing (000002)' in caplog.text


@pytest.mark.parametrize('suffix', ['.jpg', '.jpeg', '.JPG', '.JPEG', '.PNG', '.Jpeg'])
@pytest.mark.parametrize('side', ['left', 'right'])
def test_images_of_any_suffix(folder, suffix, side):
    images = folder / {'left': 'image_2', 'right': 'image_3'}[side]
    for path in sorted(images.iterdir()):
        pixels = read_image(path)
        path.unlink()
        write_image(path.with_suffix(suffix), pixels)
    sequence = KittiSequence(folder)
    assert sequence.frame_ids == ('000000', '000001', '000002') and sequence.has_right
    assert sequence.image(1, side).shape == (*SIZE, 3)


def test_what_else_lies_in_the_folders_of_people(folder):
    """AppleDouble files of macOS, thumbnails, both formats of one image."""
    for name in ('._000000.png', 'Thumbs.db', '.DS_Store', '000000 (1).png', 'preview.jpg'):
        (folder / 'image_2' / name).write_bytes(b'x')
        (folder / 'image_3' / name).write_bytes(b'x')
    (folder / 'voxels/._000000.label').write_bytes(b'x')
    (folder / 'image_2/000001.jpg').write_bytes(b'not this one')
    sequence = KittiSequence(folder)
    assert sequence.frame_ids == ('000000', '000001', '000002') and sequence.has_right
    assert sequence.image(1).shape == (*SIZE, 3)
    assert LabelVolumes(folder).frames == tuple(FrameKey('07', i) for i in sequence.frame_ids)


def test_a_root_one_folder_too_high_is_told(folder):
    root = folder.parents[1]
    inside = root / 'archive' / 'dataset'
    inside.mkdir(parents=True)
    (root / 'sequences').rename(inside / 'sequences')
    with pytest.raises(DataFileError, match=f'give {inside}$'):
        find_sequences(root / 'archive')
    (inside / 'sequences/07/calib.txt').unlink()
    with pytest.raises(DataFileError, match='image_2 without calib.txt: unpack data_odometry_cal'):
        find_sequences(inside)
    with pytest.raises(DataFileError, match='no such folder'):
        find_sequences(root / 'nowhere')


def test_everything_that_is_missing_is_named(tmp_path):
    (tmp_path / 'velodyne').mkdir()
    with pytest.raises(DataFileError) as raised:
        KittiSequence(tmp_path)
    for name in ('calib.txt', 'times.txt', 'image_2/000000.png', 'found velodyne'):
        assert name in str(raised.value)
    with pytest.raises(DataFileError, match='expected a sequence folder'):
        KittiSequence(tmp_path / 'nothing')


def test_calibration_without_lidar_pose_or_with_a_bad_one(folder):
    kitti_files.write_calib(folder / 'calib.txt', {'P2': P2})
    with pytest.raises(CalibrationError, match='Tr missing'):
        KittiSequence(folder)
    kitti_files.write_calib(folder / 'calib.txt', {'P2': P2, 'Tr': 2 * TR})
    with pytest.raises(CalibrationError, match=r'Tr of .*calib\.txt must be rigid'):
        KittiSequence(folder)


def test_too_few_times(folder):
    kitti_files.write_times(folder / 'times.txt', np.array([0.0, 0.1]))
    with pytest.raises(DataFileError, match=r'times\.txt: .*000002 \(3 lines\), found 2'):
        KittiSequence(folder)


def test_an_image_of_another_size(folder):
    write_image(folder / 'image_2/000001.png', np.zeros((10, 20, 3), np.uint8))
    with pytest.raises(DataFileError, match=r'000001\.png: expected 160x48 .*found 20x10'):
        KittiSequence(folder).image(1)


def test_a_frame_that_is_not_there(folder):
    with pytest.raises(DataFileError, match=r'000000\.\.000002, asked for 7'):
        KittiSequence(folder).image(7)


def test_labels_must_belong_to_the_scan(folder):
    (folder / 'labels').mkdir()
    kitti_files.write_point_labels(folder / 'labels/000000.label', np.full(20, 40))
    kitti_files.write_point_labels(folder / 'labels/000001.label', np.full(19, 40))
    sequence = KittiSequence(folder)
    np.testing.assert_array_equal(sequence.point_labels(0), 40)
    with pytest.raises(DataFileError, match='expected 20 labels'):
        sequence.point_labels(1)


def test_lidar_poses_follow_the_camera(folder):
    """The camera moves 3 m along its z, so the lidar moves 3 m along its x."""
    poses = np.tile(np.eye(4), (3, 1, 1))
    poses[1, 2, 3] = 3.0
    kitti_files.write_poses(folder / 'poses.txt', poses)
    sequence = KittiSequence(folder)
    assert sequence.has_poses
    np.testing.assert_allclose(sequence.world_from_velo(0), np.eye(4), atol=1e-12)
    np.testing.assert_allclose(sequence.world_from_velo(1)[:3, 3], [3, 0, 0], atol=1e-12)


def test_sequences_are_found_from_root_parent_and_folder(folder):
    root = folder.parents[1]
    build_sequence(root / 'sequences/03', frames=1)
    both = [root / 'sequences/03', folder]
    assert find_sequences(root) == both
    assert find_sequences(root / 'sequences') == both
    assert find_sequences(folder) == [folder]
    with pytest.raises(DataFileError, match='no sequences under'):
        find_sequences(folder / 'image_2')


SIZES = {'00': (1241, 376), '03': (1242, 375), '04': (1226, 370), '05': (1226, 370)}
FOCAL_BASELINES = {'00': 382.670, '03': 384.382, '04': 380.348, '05': 380.348}


@pytest.mark.parametrize('name', SIZES)
def test_real_cameras(shared_dir, name):
    sequence = KittiSequence(shared_dir / 'data/kitti_mini/sequences' / name)
    camera = sequence.camera_left
    assert (camera.width, camera.height) == SIZES[name]
    focal_baseline = stereo_focal_baseline(camera, sequence.camera_right)
    assert focal_baseline == pytest.approx(FOCAL_BASELINES[name], abs=1e-3)
    _, depth, seen = project_points(sequence.velodyne(0)[:, :3], camera, sequence.cam_from_velo)
    assert 15_000 < seen.sum() < 25_000
    assert depth[seen].max() < 90


@pytest.mark.parametrize('name', ['00', '04'])
def test_real_scans_meet_when_moved_by_the_poses(shared_dir, name):
    """Scan 9 in the frame of scan 0 falls where scan 0 had points; unmoved it does less."""
    sequence = KittiSequence(shared_dir / 'data/kitti_mini/sequences' / name)

    def cells(points):
        near = points[np.linalg.norm(points, axis=1) < 25]
        return set(map(tuple, np.floor(near / 0.4).astype(int)))

    first = cells(sequence.velodyne(0)[:, :3])
    points = sequence.velodyne(9)[:, :3]
    relative = np.linalg.inv(sequence.world_from_velo(0)) @ sequence.world_from_velo(9)
    moved = cells(points @ relative[:3, :3].T + relative[:3, 3])
    overlap, unmoved = (len(first & other) / len(other) for other in (moved, cells(points)))
    assert overlap > unmoved + 0.1
