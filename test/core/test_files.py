"""Files appear whole or not at all."""

import pytest

from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.files import read_bytes, replacing, write_atomically


def test_content_replaces_what_was_there(tmp_path):
    path = tmp_path / 'new' / 'folder' / 'file.txt'
    write_atomically(path, 'first')
    write_atomically(path, 'zweite, größer')
    assert read_bytes(path) == 'zweite, größer'.encode()
    write_atomically(path, b'\x00\xff')
    assert read_bytes(path) == b'\x00\xff'
    assert [entry.name for entry in path.parent.iterdir()] == ['file.txt']


def test_a_failure_keeps_the_old_content_and_leaves_nothing(tmp_path):
    path = tmp_path / 'file'
    write_atomically(path, 'old')
    with pytest.raises(RuntimeError, match='half way'), replacing(path) as partial:
        partial.write_text('ne')
        assert path.read_text() == 'old'
        raise RuntimeError('half way')
    assert path.read_text() == 'old'
    assert [entry.name for entry in tmp_path.iterdir()] == ['file']


def test_what_cannot_be_written_or_read_is_named(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(DataFileError, match=r'file/below: cannot be written'):
        write_atomically(tmp_path / 'file' / 'below', 'text')
    with pytest.raises(DataFileError, match=r'cannot be written'):
        write_atomically(tmp_path, 'text')
    with pytest.raises(DataFileError, match=r'nothing: cannot be read'):
        read_bytes(tmp_path / 'nothing')
