"""Packed frames come back as they were, or as near as the docstring says; damage is told."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cigocc_ros.core.errors import DataFileError
from cigocc_ros.training.cache import FrameRef, load_frame
from cigocc_ros.training.shards import HEADER, Shard, open_shards, write_shard

KEY = 'tiny-abcd'


@pytest.fixture
def arrays(frames: list[FrameRef]) -> dict[str, Any]:
    return load_frame(frames[0])


@pytest.fixture
def path(arrays: dict[str, Any], tmp_path: Path) -> Path:
    path = tmp_path / 'a.shard'
    assert write_shard(path, KEY, [('00/000000', arrays), ('00/000000_right', arrays)]) == 2
    return path


def test_frames_come_back(path: Path, arrays: dict[str, Any]) -> None:
    shard = Shard(path)
    assert shard.names == ('00/000000', '00/000000_right')
    back = shard.load('00/000000')
    assert set(back) == set(arrays)
    for key, array in arrays.items():
        assert back[key].dtype == array.dtype and back[key].shape == array.shape, key
        if key not in ('image', 'measured', 'stereo'):
            np.testing.assert_array_equal(back[key], array, err_msg=key)


@pytest.mark.parametrize('kind', ['measured', 'stereo'])
def test_depth_is_off_by_less_than_its_float16_and_the_step(
    kind: str, path: Path, arrays: dict[str, Any]
) -> None:
    before, after = arrays[kind].astype(float), Shard(path).load('00/000000')[kind].astype(float)
    np.testing.assert_array_equal(before > 0, after > 0)
    known = before > 0
    assert known.any()
    assert np.max(np.abs(after[known] / before[known] - 1)) < 0.0017 + 2**-11


def test_images_lose_little(path: Path, arrays: dict[str, Any]) -> None:
    difference = Shard(path).load('00/000000')['image'].astype(int) - arrays['image'].astype(int)
    assert np.abs(difference).mean() < 6


def test_a_shard_is_smaller_than_the_frames(frames: list[FrameRef], tmp_path: Path) -> None:
    path = tmp_path / 'all.shard'
    write_shard(path, KEY, ((f'00/{i}', load_frame(frame)) for i, frame in enumerate(frames)))
    unpacked = sum(frame.cached.stat().st_size for frame in frames)
    assert path.stat().st_size < unpacked / 2


def test_shards_of_other_sizes_are_refused(path: Path) -> None:
    assert [shard.path for shard in open_shards(path.parent, KEY)] == [path]
    with pytest.raises(DataFileError, match='packed for tiny-abcd, this network needs mid-1'):
        list(open_shards(path.parent, 'mid-1'))


@pytest.mark.parametrize('cut_at', [0, 100, -300])
def test_a_file_cut_off_is_told(cut_at: int, path: Path) -> None:
    path.write_bytes(path.read_bytes()[:cut_at])
    with pytest.raises(DataFileError, match='cigocc pack'):
        Shard(path)


def rewritten(path: Path, header: dict[str, Any]) -> Path:
    """Return a copy whose header says something else."""
    other = path.with_name('other.shard')
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(other, 'w') as new:
        for name in old.namelist():
            new.writestr(name, json.dumps(header) if name == HEADER else old.read(name))
    return other


@pytest.mark.parametrize(
    ('field', 'value', 'message'),
    [
        ('shape', [10**6, 10**6], 'at most'),
        ('shape', [-1, 4], 'a packed array'),
        ('dtype', 'object', 'a plain dtype'),
        ('codec', 'pickle', 'codec'),
    ],
)
def test_a_header_that_lies_is_refused(field: str, value: Any, message: str, path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        header = json.loads(archive.read(HEADER))
    header['frames']['00/000000']['labels'][field] = value
    with pytest.raises(DataFileError, match=message):
        Shard(rewritten(path, header))


def test_more_bytes_than_promised_are_not_unpacked(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        header = json.loads(archive.read(HEADER))
    header['frames']['00/000000']['labels']['shape'] = [2, 2, 2]
    with pytest.raises(DataFileError, match='expected 8 bytes, found 9 or more'):
        Shard(rewritten(path, header)).load('00/000000')


def test_another_format_is_told(path: Path) -> None:
    with pytest.raises(DataFileError, match='expected format 1, found 2'):
        Shard(rewritten(path, {'format': 2}))


@pytest.mark.parametrize(
    'name', ['../../outside', '00/../x', '/etc/x', '00', '00/000000/b', '.a/b']
)
def test_names_that_would_leave_the_folder_are_refused(
    name: str, path: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(path) as archive:
        header = json.loads(archive.read(HEADER))
    header['frames'][name] = header['frames'].pop('00/000000')
    with pytest.raises(DataFileError, match='expected frames SS/FFFFFF'):
        Shard(rewritten(path, header))
