"""What a submission must be, as a folder and as a zip."""

import zipfile

import numpy as np
import pytest
from fixtures_evaluation import FRAMES, SHAPE

from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.labels import raw_from_train
from cigocc_ros.data.kitti_files import write_voxel_labels
from cigocc_ros.evaluation.predictions import PredictionFiles
from cigocc_ros.evaluation.submission import member_name, pack_submission, validate_submission

SECOND = 'sequences/00/predictions/000005.label'


@pytest.fixture
def folder(tmp_path):
    """Write a submission whose volumes are busy near the car and empty elsewhere."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[:8] = np.random.default_rng(0).integers(0, 20, (8, *SHAPE[1:]))
    for frame in FRAMES:
        write_voxel_labels(tmp_path / 'submission' / member_name(frame), raw_from_train(labels))
    return tmp_path / 'submission'


def drop(folder):
    (folder / SECOND).unlink()


def cut(folder):
    (folder / SECOND).write_bytes((folder / SECOND).read_bytes()[:-2])


def write_id(raw_id):
    def write(folder):
        raw = np.zeros(SHAPE, np.uint16)
        raw[3, 4, 5] = raw_id
        write_voxel_labels(folder / SECOND, raw)

    return write


def add(folder):
    (folder / 'sequences' / 'notes.txt').write_text('hello')


BAD = [
    (drop, 'is missing'),
    (cut, 'expected 4194304 bytes .* found 4194302'),
    (write_id(52), r'raw ids \[52\] are not scored'),
    (write_id(7), r'unknown raw label ids \[7\]'),
]


@pytest.mark.parametrize('spoil, message', BAD)
def test_the_first_bad_file_of_a_folder_is_named(folder, spoil, message):
    spoil(folder)
    with pytest.raises(DataFileError, match=f'{SECOND}.*{message}'):
        validate_submission(folder, FRAMES)


@pytest.mark.parametrize('spoil, message', BAD)
def test_the_same_holds_when_files_are_scored(folder, spoil, message):
    spoil(folder)
    files = PredictionFiles(folder)
    with pytest.raises(DataFileError, match=f'{SECOND}: .*{message.replace("is ", "")}'):
        files.require(FRAMES)
        files(FRAMES[1])


def test_a_file_too_many_is_named(folder):
    add(folder)
    with pytest.raises(DataFileError, match='sequences/notes.txt does not belong'):
        validate_submission(folder, FRAMES)


def test_good_folder_and_zip_pass(folder, tmp_path):
    validate_submission(folder, FRAMES)
    archive = tmp_path / 'out' / 'submission.zip'
    pack_submission(folder, FRAMES, archive)
    validate_submission(archive, FRAMES)
    names = [name for name in zipfile.ZipFile(archive).namelist() if not name.endswith('/')]
    assert names == [member_name(key) for key in FRAMES]
    assert [path.name for path in archive.parent.iterdir()] == ['submission.zip']


def test_bad_member_of_a_zip_is_named(folder, tmp_path):
    cut(folder)
    pack_submission(folder, FRAMES, tmp_path / 'a.zip')
    with pytest.raises(DataFileError, match=f'a.zip: {SECOND}: expected 4194304 bytes'):
        validate_submission(tmp_path / 'a.zip', FRAMES)
    pack_submission(folder, FRAMES[2:], tmp_path / 'b.zip')
    with pytest.raises(DataFileError, match='000000.label is missing, as are 1 more of 4'):
        validate_submission(tmp_path / 'b.zip', FRAMES)


def test_damaged_zip_is_named(folder, tmp_path):
    pack_submission(folder, FRAMES, tmp_path / 'a.zip')
    content = bytearray((tmp_path / 'a.zip').read_bytes())
    content[1000:1100] = bytes(100)
    (tmp_path / 'a.zip').write_bytes(content)
    with pytest.raises(DataFileError, match='000000.label: cannot be read'):
        validate_submission(tmp_path / 'a.zip', FRAMES)
    (tmp_path / 'a.zip').write_bytes(b'nothing')
    with pytest.raises(DataFileError, match='a.zip: expected a folder'):
        validate_submission(tmp_path / 'a.zip', FRAMES)


def official_complaint(path, frames):
    """Apply the rules of the server to a zip; return the first complaint, None where it passes.

    What validate_submission.py of github.com/PRBonn/semantic-kitti-api at 4036c93 asks of
    `--task completion`, in words of our own and for the sequences of `frames`.
    """
    if not str(path).endswith('.zip'):
        return 'name'
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    folders = {entry.filename for entry in entries if entry.filename.endswith('/')}
    files = {e.filename: e.file_size for e in entries if not e.filename.endswith('/')}
    files.pop('description.txt', None)
    for name in sorted({key.sequence for key in frames}):
        for folder in ('sequences/', f'sequences/{name}/', f'sequences/{name}/predictions/'):
            if folder not in folders:
                return f'folder {folder}'
    needed = [f'sequences/{key.sequence}/predictions/{key.frame_id}.label' for key in frames]
    for name in needed:
        if files.get(name) != 2 * 256 * 256 * 32:
            return f'size of {name}'
    return None if len(files) == len(needed) else 'unneeded files'


def test_a_packed_submission_passes_the_rules_of_the_server(folder, tmp_path):
    path = tmp_path / 'submission.zip'
    pack_submission(folder, FRAMES, path)
    assert official_complaint(path, FRAMES) is None
    validate_submission(path, FRAMES)
    with zipfile.ZipFile(path, 'a') as archive:
        archive.writestr('description.txt', 'method: name')
    assert official_complaint(path, FRAMES) is None
    validate_submission(path, FRAMES)


@pytest.mark.parametrize('dropped', ['sequences/', 'sequences/00/', 'sequences/08/predictions/'])
def test_a_zip_without_entries_for_folders_is_refused_as_the_server_does(
    folder, tmp_path, dropped
):
    pack_submission(folder, FRAMES, tmp_path / 'whole.zip')
    bare = tmp_path / 'bare.zip'
    with zipfile.ZipFile(tmp_path / 'whole.zip') as whole, zipfile.ZipFile(bare, 'w') as target:
        for entry in whole.infolist():
            if entry.filename != dropped:
                target.writestr(entry, whole.read(entry))
    assert official_complaint(bare, FRAMES) == f'folder {dropped}'
    with pytest.raises(DataFileError, match=f'entry for each folder, {dropped} has none'):
        validate_submission(bare, FRAMES)


def test_a_name_that_the_server_refuses(folder, tmp_path):
    with pytest.raises(DataFileError, match=r'end with \.zip'):
        pack_submission(folder, FRAMES, tmp_path / 'submission.tar')
    assert not (tmp_path / 'submission.tar').exists()
