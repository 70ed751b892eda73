"""Bags that others recorded with `ros2 bag record`, as folders or as lone files.

What a file is, its first bytes say: sqlite3 or mcap, whole or compressed with zstd. So a folder
needs no metadata.yaml, a type no definition, and a lone file no folder; see bag_files.
"""

from __future__ import annotations

import itertools
import re
import tempfile
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from cigocc_ros.core.errors import CigoccError, ConfigError, DataFileError
from cigocc_ros.core.files import read_bytes
from cigocc_ros.core.yaml_json import parse_yaml
from cigocc_ros.data.bag_files import (
    ZSTD_MAGIC,
    Channel,
    McapFile,
    Recorded,
    SqliteFile,
    StorageFile,
    unpacked,
)

METADATA = 'metadata.yaml'
MAX_METADATA_BYTES = 4_000_000
SQLITE_MAGIC, MCAP_MAGIC = b'SQLite format 3\0', b'\x89MCAP0\r\n'
ROS1_MAGIC = b'#ROSBAG V'
REINDEX = 'ros2 bag reindex FOLDER writes it anew'


@dataclass
class RecordedBag:
    """An open bag. problems: what is wrong with it, in words; it is played as far as it goes."""

    path: Path
    files: list[StorageFile]
    problems: list[str] = field(default_factory=list)
    promised: int | None = None
    """Messages by metadata.yaml; None without it."""
    is_broken: bool = False
    """Whether some of its messages cannot be read."""
    _stack: ExitStack = field(default_factory=ExitStack)

    @classmethod
    def open(cls, path: Path) -> RecordedBag:
        """Open a folder or a lone file; raise DataFileError where nothing of it can be read."""
        paths, promised, problems = _listed(path)
        bag = cls(path, [], problems, promised)
        try:
            for one in paths:
                bag._add(one)
        except BaseException:
            bag.close()
            raise
        if not bag.files:
            raise DataFileError('; '.join(bag.problems) or f'{path}: no file of a bag')
        return bag

    def _add(self, path: Path) -> None:
        try:
            opened = _opened(path, self._stack)
        except DataFileError as error:
            self._break(str(error))
            return
        self._stack.callback(opened.close)
        self.files.append(opened)
        if opened.problem:
            self._break(opened.problem)

    def _break(self, problem: str) -> None:
        self.is_broken = True
        if problem not in self.problems:
            self.problems.append(problem)

    @property
    def channels(self) -> dict[Channel, int]:
        """Every channel, and how many messages its files say it has."""
        found: dict[Channel, int] = {}
        for channel, count in itertools.chain(*(file.channels.items() for file in self.files)):
            found[channel] = found.get(channel, 0) + count
        return found

    @property
    def start_ns(self) -> int:
        """Time of the earliest message; 0 where there is none."""
        return min((file.start_ns for file in self.files if file.start_ns is not None), default=0)

    def messages(self, wanted: Collection[Channel]) -> Iterator[Recorded]:
        """Yield the messages of some channels, file after file, each by time.

        A file that breaks off is noted in `problems`, and the next one goes on.
        """
        for file in self.files:
            try:
                yield from file.messages(wanted)
            except DataFileError as error:
                self._break(str(error))

    def close(self) -> None:
        """Close the files and remove what was unpacked."""
        self._stack.close()


def _listed(path: Path) -> tuple[list[Path], int | None, list[str]]:
    """Return the files of a bag in their order, how many messages they should hold, problems."""
    if not path.exists():
        raise DataFileError(f'{path}: expected a bag (a folder, or one .mcap or .db3), found none')
    if path.is_file() and path.name == METADATA:
        path = path.parent
    if path.is_file():
        return [path], None, []
    found = [one for one in path.iterdir() if one.is_file() and _is_storage(one)]
    found.sort(key=_natural)
    if not (path / METADATA).is_file():
        if not found:
            raise DataFileError(
                f'{path}: expected a bag: {METADATA} and .mcap or .db3 files; found neither'
            )
        named = ', '.join(one.name for one in found)
        return found, None, [f'{path}: no {METADATA}, playing {named} ({REINDEX})']
    try:
        names, promised = _metadata(path / METADATA)
    except CigoccError as error:
        if not found:
            raise DataFileError(f'{error}; {REINDEX}') from error
        return found, None, [f'{error}; {REINDEX}']
    present = [path / name for name in names if (path / name).is_file()]
    missing = [name for name in names if not (path / name).is_file()]
    problems = [f'{path}: {METADATA} names {name}, which is not there' for name in missing]
    return present or found, promised, problems


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sort bag_10 after bag_9."""
    return [(int(part), '') if part.isdigit() else (-1, part) for part in _numbers(path.name)]


def _numbers(name: str) -> list[str]:
    return re.findall(r'\d+|\D+', name)


def _metadata(path: Path) -> tuple[list[str], int]:
    """Return file names and message count; raise CigoccError where they are not there."""
    try:
        text = read_bytes(path, MAX_METADATA_BYTES).decode('utf-8')
    except UnicodeDecodeError as error:
        raise ConfigError(f'{path}: not valid YAML: {error}') from error
    content = parse_yaml(text, str(path))
    try:
        information = content['rosbag2_bagfile_information']
        # up to version 3, and in some of version 4, they begin with the name of the folder
        names = [Path(name).name for name in information['relative_file_paths']]
        return names, int(information['message_count'])
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f'{path}: expected rosbag2_bagfile_information with relative_file_paths and '
            f'message_count, found none ({error!r})'
        ) from error


def _magic(path: Path) -> bytes:
    try:
        with path.open('rb') as stream:
            return stream.read(len(SQLITE_MAGIC))
    except OSError as error:
        raise DataFileError(f'{path}: cannot be read: {error.strerror}') from error


def _is_storage(path: Path) -> bool:
    magic = _magic(path)
    if magic.startswith(ZSTD_MAGIC):
        return path.suffix == '.zstd'
    return magic.startswith((SQLITE_MAGIC, MCAP_MAGIC))


def _opened(path: Path, stack: ExitStack) -> StorageFile:
    """Open one file by what its first bytes say; raise DataFileError."""
    magic = _magic(path)
    if magic.startswith(ZSTD_MAGIC):
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix='cigocc_bag_')))
        return _opened(unpacked(path, folder), stack)
    if magic.startswith(SQLITE_MAGIC):
        return SqliteFile(path, stack)
    if magic.startswith(MCAP_MAGIC):
        return McapFile(path)
    if magic.startswith(ROS1_MAGIC):
        cure = 'rosbags-convert --src FILE --dst FOLDER (pip install rosbags) makes a bag of ROS 2'
        raise DataFileError(f'{path}: a bag of ROS 1; {cure}')
    found = 'an empty file' if not magic else f'a file that begins with {magic[:8]!r}'
    raise DataFileError(f'{path}: expected sqlite3 or mcap (also in zstd), found {found}')
