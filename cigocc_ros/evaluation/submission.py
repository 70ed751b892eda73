"""A submission to the benchmark's server: its names, sizes and ids, as a folder or a zip.

A zip must pass validate_submission.py of github.com/PRBonn/semantic-kitti-api (4036c93), which the
server runs: its name ends with .zip, each folder has an entry of its own, every volume is there at
its size, and nothing else but a description.txt.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from cigocc_ros.core.arrays import UNREADABLE
from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.files import read_bytes, replacing
from cigocc_ros.core.text import cut, excerpt
from cigocc_ros.data.kitti_files import MAX_VOLUME_BYTES
from cigocc_ros.data.kitti_layout import FrameKey
from cigocc_ros.evaluation.predictions import FOLDER, prediction_labels

Read = Callable[[str], bytes]
SUFFIX = '.zip'
OPTIONAL = 'description.txt'
"""May lie beside sequences/; the server shows it."""


def member_name(frame: FrameKey) -> str:
    """Return the name of a frame's file within a submission."""
    return f'sequences/{frame.sequence}/{FOLDER}/{frame.frame_id}.label'


def validate_submission(path: Path, frames: tuple[FrameKey, ...]) -> None:
    """Check a folder or zip: all of `frames`, nothing else, right sizes, ids that are scored.

    Raises DataFileError naming the first bad file, or the folder that a zip has no entry of.
    """
    with _opened(path) as (names, read):
        expected = [member_name(frame) for frame in frames]
        _check_names(path, expected, [name for name in names if name != OPTIONAL])
        for name in expected:
            prediction_labels(read(name), f'{path}: {name}')


def pack_submission(folder: Path, frames: tuple[FrameKey, ...], archive: Path) -> None:
    """Write the predictions of `frames` as a zip; a reader sees all of it or none.

    Raises DataFileError for a name that the server refuses.
    """
    _check_suffix(archive)
    with (
        replacing(archive) as temporary,
        zipfile.ZipFile(temporary, 'w', zipfile.ZIP_DEFLATED) as target,
    ):
        for name in _folders(member_name(frame) for frame in frames):
            target.writestr(zipfile.ZipInfo(name), b'')
        for frame in frames:
            target.write(folder / member_name(frame), member_name(frame))


def _folders(names: Iterable[str]) -> list[str]:
    """Return the folders that members lie in as entries of a zip, outer ones first."""
    parents = {parent for name in names for parent in PurePosixPath(name).parents}
    return sorted(f'{parent}/' for parent in parents if parent.name)


def _check_suffix(path: Path) -> None:
    if path.suffix != SUFFIX:
        raise DataFileError(f'{path}: the server takes names that end with {SUFFIX}')


def _check_folders(path: Path, entries: list[str]) -> None:
    """Raise DataFileError for a folder that has files but no entry."""
    there = {name for name in entries if name.endswith('/')}
    missing = [name for name in _folders(set(entries) - there) if name not in there]
    if missing:
        raise DataFileError(
            f'{path}: the server wants an entry for each folder, {cut(missing[0])} has none: '
            'pack it with "cigocc submit --zip", or with "zip -r" from the folder above sequences'
        )


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
        _check_suffix(path)
        names = sorted(name for name in archive.namelist() if not name.endswith('/'))
        _check_folders(path, archive.namelist())
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
