"""A submission to the benchmark's server: its names, sizes and ids, as a folder or a zip."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cigocc_ros.core.arrays import UNREADABLE
from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.files import read_bytes, replacing
from cigocc_ros.core.text import cut, excerpt
from cigocc_ros.data.kitti_files import MAX_VOLUME_BYTES
from cigocc_ros.data.kitti_layout import FrameKey
from cigocc_ros.evaluation.predictions import FOLDER, prediction_labels

Read = Callable[[str], bytes]


def member_name(frame: FrameKey) -> str:
    """Return the name of a frame's file within a submission."""
    return f'sequences/{frame.sequence}/{FOLDER}/{frame.frame_id}.label'


def validate_submission(path: Path, frames: tuple[FrameKey, ...]) -> None:
    """Check a folder or zip: all of `frames`, nothing else, right sizes, ids that are scored.

    Raises DataFileError naming the first bad file.
    """
    with _opened(path) as (names, read):
        expected = [member_name(frame) for frame in frames]
        _check_names(path, expected, names)
        for name in expected:
            prediction_labels(read(name), f'{path}: {name}')


def pack_submission(folder: Path, frames: tuple[FrameKey, ...], archive: Path) -> None:
    """Write the predictions of `frames` as a zip; a reader sees all of it or none."""
    with (
        replacing(archive) as temporary,
        zipfile.ZipFile(temporary, 'w', zipfile.ZIP_DEFLATED) as target,
    ):
        for frame in frames:
            target.write(folder / member_name(frame), member_name(frame))


@contextmanager
def _opened(path: Path) -> Iterator[tuple[list[str], Read]]:
    """Yield the names of the files, in order, and a function that reads one of them."""
    if path.is_dir():
        files = sorted(entry for entry in path.rglob('*') if entry.is_file())
        names = [entry.relative_to(path).as_posix() for entry in files]
        yield names, lambda name: read_bytes(path / name)
        return
    if not zipfile.is_zipfile(path):
        raise DataFileError(f'{path}: expected a folder with sequences/, or a zip of one')
    try:
        archive = zipfile.ZipFile(path)
    except UNREADABLE as error:
        raise DataFileError(f'{path}: no zip that can be read: {excerpt(error)}') from error
    with archive:
        names = sorted(name for name in archive.namelist() if not name.endswith('/'))
        yield names, lambda name: _member(archive, name, path)


def _member(archive: zipfile.ZipFile, name: str, path: Path) -> bytes:
    try:
        info = archive.getinfo(name)
        # zipfile makes room for what either number says before it reads
        size = max(info.file_size, info.compress_size)
        if size > MAX_VOLUME_BYTES:
            raise DataFileError(f'{path}: {name}: {size} bytes, too many for a volume')
        return archive.read(info)
    except UNREADABLE as error:
        if isinstance(error, DataFileError):
            raise
        raise DataFileError(f'{path}: {name}: cannot be read: {cut(str(error))}') from error


def _check_names(path: Path, expected: list[str], found: list[str]) -> None:
    """Raise DataFileError naming the first file that is missing or does not belong."""
    if len(found) != len(set(found)):
        raise DataFileError(f'{path}: holds two files of one name; pack it again')
    missing = sorted(set(expected) - set(found))
    if missing:
        raise DataFileError(
            f'{path}: {cut(missing[0])} is missing, as are {len(missing) - 1} more of '
            f'{len(expected)} files; found {len(found)}'
        )
    extra = sorted(set(found) - set(expected))
    if extra:
        raise DataFileError(
            f'{path}: {cut(extra[0])} does not belong into a submission, nor do '
            f'{len(extra) - 1} more files: only sequences/SS/predictions/FFFFFF.label of the '
            'frames to predict do'
        )
