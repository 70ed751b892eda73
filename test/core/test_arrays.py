"""Arrays on disk: packed, whole, with a comment that is read without them."""

import zipfile

import numpy as np
import pytest

from cigocc_ros.core.arrays import read_arrays, read_comment, write_arrays
from cigocc_ros.core.errors import DataFileError

ARRAYS = {
    'labels': np.zeros((64, 64, 8), np.uint8),
    'depth': np.linspace(0, 80, 500, dtype=np.float16).reshape(5, 100),
    'matrix': np.arange(12.0).reshape(3, 4),
    'strided': np.arange(24).reshape(4, 6)[:, ::2],
    'scalar': np.array(3),
    'none': np.zeros((0, 3), np.float32),
}


def test_arrays_survive_and_numpy_reads_them_too(tmp_path):
    path = tmp_path / 'deep' / 'a.npz'
    write_arrays(path, ARRAYS, comment='made of this')
    found = read_arrays(path)
    assert list(found) == list(ARRAYS)
    with np.load(path) as other_reader:
        for name, array in ARRAYS.items():
            for read in (found[name], other_reader[name]):
                assert read.dtype == array.dtype
                np.testing.assert_array_equal(read, array)
    assert path.stat().st_size < 6000 < ARRAYS['labels'].nbytes
    assert [entry.name for entry in path.parent.iterdir()] == ['a.npz']


def test_a_comment_is_read_without_the_arrays(tmp_path, monkeypatch):
    write_arrays(tmp_path / 'a.npz', ARRAYS, comment='f00d')
    monkeypatch.setattr(zipfile.ZipFile, 'read', None)
    monkeypatch.setattr(zipfile.ZipFile, 'open', None)
    assert read_comment(tmp_path / 'a.npz') == 'f00d'


def test_what_is_no_archive_has_no_comment(tmp_path):
    with pytest.raises(DataFileError, match='no .npz that can be read'):
        read_comment(tmp_path / 'missing.npz')
    (tmp_path / 'cut.npz').write_bytes(b'PK\x03\x04')
    with pytest.raises(DataFileError, match='cut.npz: no .npz that can be read'):
        read_comment(tmp_path / 'cut.npz')


def test_what_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match='allow_pickle'):
        write_arrays(tmp_path / 'a.npz', {'objects': np.array([None])})
    assert not list(tmp_path.iterdir())
