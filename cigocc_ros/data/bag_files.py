"""The files of a bag, sqlite3 and mcap, read as bytes: no message is understood here.

The layouts are those of rosbag2, from Foxy to Kilted: rosbag2_storage_sqlite3/sqlite_storage.cpp,
rosbag2_storage_mcap/mcap_storage.cpp. Message definitions are not looked at: Humble stores none,
and later ones store some of encoding `unknown` (local_message_definition_source.cpp).
"""

from __future__ import annotations

import importlib
import shutil
import sqlite3
import tempfile
from collections.abc import Collection, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from cigocc_ros.core.errors import ConfigError, DataFileError

if TYPE_CHECKING:
    from mcap.records import Channel as McapChannel

ZSTD_MAGIC = b'\x28\xb5\x2f\xfd'
BLOCK_BYTES = 1 << 20
RECOVER = {
    'sqlite3': "sqlite3 FILE '.recover' | sqlite3 mended.db3 saves what is left",
    'mcap': 'mcap recover FILE -o mended.mcap saves what is left',
}


@dataclass(frozen=True)
class Channel:
    """A topic of a bag. kind: package/msg/Type; qos: what its publishers offered, as YAML."""

    topic: str
    kind: str
    serialization: str = 'cdr'
    qos: str = ''


@dataclass(frozen=True)
class Recorded:
    """One message, as it was received."""

    channel: Channel
    time_ns: int
    data: bytes


class StorageFile(Protocol):
    """One open file of a bag. problem: why not all of it can be read; empty where it can."""

    path: Path
    channels: dict[Channel, int]
    start_ns: int | None
    problem: str

    def messages(self, wanted: Collection[Channel]) -> Iterator[Recorded]:
        """Yield the messages of some channels by their time; raise DataFileError at a break."""

    def close(self) -> None:
        """Close the file."""


def library(name: str) -> Any:
    """Import what reads mcap and zstd; raise ConfigError with the line that installs it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition('.')[0]
        raise ConfigError(
            f'this bag needs the library {package}: pip install {package}'
        ) from error


def unpacked(path: Path, folder: Path) -> Path:
    """Write what a file of `ros2 bag record --compression-mode file` holds into a folder."""
    zstandard, to = library('zstandard'), folder / path.stem
    try:
        with path.open('rb') as packed, to.open('wb') as out:
            stream = zstandard.ZstdDecompressor().decompressobj()
            while block := packed.read(BLOCK_BYTES):
                out.write(stream.decompress(block))
    except zstandard.ZstdError as error:
        raise DataFileError(f'{path}: cut off or damaged: {error}') from error
    except OSError as error:
        raise DataFileError(f'{path}: cannot be unpacked to {folder}: {error}') from error
    if not stream.eof:
        raise DataFileError(f'{path}: cut off or damaged: its zstd frame has no end')
    return to


def _message(channel: Channel, time_ns: int, data: bytes) -> Recorded:
    """Return a message; those of `--compression-mode message` are unpacked.

    CDR begins with a zero byte, zstd does not.
    """
    if data[: len(ZSTD_MAGIC)] == ZSTD_MAGIC:
        zstandard = library('zstandard')
        try:
            data = zstandard.ZstdDecompressor().decompressobj().decompress(data)
        except zstandard.ZstdError as error:
            raise DataFileError(f'{channel.topic}: a damaged message: {error}') from error
    return Recorded(channel, time_ns, data)


class SqliteFile:
    """A .db3 of any version: the columns that it has are asked for."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        """Read the topics; raise DataFileError where they cannot be read."""
        self.path, self.problem = path, ''
        settled = _settled(path, stack)
        self._cut = _is_cut(settled)
        self._database = _connected(settled)
        try:
            if self._cut:  # else SQLite does not look at it
                self._database.execute('PRAGMA writable_schema=ON')
            self._topics = dict(self._read_topics())
            self.channels, self.start_ns = self._counted()
        except sqlite3.Error as error:
            self.close()
            raise self._broken(error) from error
        if self._cut:
            self.problem = str(self._broken('the file is shorter than it says'))

    def _broken(self, error: object) -> DataFileError:
        return DataFileError(f'{self.path}: cut off or damaged: {error}; {RECOVER["sqlite3"]}')

    def _read_topics(self) -> Iterator[tuple[int, Channel]]:
        names = {row[1] for row in self._database.execute('PRAGMA table_info(topics)')}
        qos = 'offered_qos_profiles' if 'offered_qos_profiles' in names else "''"
        query = f'SELECT id, name, type, serialization_format, {qos} FROM topics ORDER BY id'
        for number, *described in self._database.execute(query):
            yield number, Channel(*map(str, described))

    def _counted(self) -> tuple[dict[Channel, int], int | None]:
        """Return the messages of each channel, and the first time."""
        counts = dict.fromkeys(self._topics.values(), 0)
        if self._cut:
            return counts, self._first_of_a_cut_file()
        query = 'SELECT topic_id, count(*), min(timestamp) FROM messages GROUP BY topic_id'
        found = self._database.execute(query).fetchall()
        for number, count, _ in found:
            if number in self._topics:
                counts[self._topics[number]] += count
        return counts, min((row[2] for row in found), default=None)

    def _first_of_a_cut_file(self) -> int | None:
        query = 'SELECT timestamp FROM messages NOT INDEXED ORDER BY id LIMIT 1'
        first = self._database.execute(query).fetchone()
        return None if first is None else int(first[0])

    def messages(self, wanted: Collection[Channel]) -> Iterator[Recorded]:
        """Yield by time; of a file that was cut, as they were written, for its index is gone."""
        numbers = {number for number, channel in self._topics.items() if channel in wanted}
        order = 'NOT INDEXED ORDER BY id' if self._cut else 'ORDER BY timestamp, id'
        query = f'SELECT topic_id, timestamp, data FROM messages {order}'
        try:
            for number, time_ns, data in self._database.execute(query):
                if not isinstance(data, bytes):
                    raise self._broken(f'a message is {type(data).__name__}, not bytes')
                if number in numbers:
                    yield _message(self._topics[number], time_ns, data)
        except sqlite3.Error as error:
            raise self._broken(error) from error

    def close(self) -> None:
        """Close the file."""
        self._database.close()


def _is_cut(path: Path) -> bool:
    """Say whether a database is shorter than its header says (sqlite.org/fileformat.html, 1.3)."""
    with path.open('rb') as stream:
        header = stream.read(100)
    if len(header) < 100:
        return True
    size, pages = int.from_bytes(header[16:18], 'big'), int.from_bytes(header[28:32], 'big')
    return path.stat().st_size < pages * (65_536 if size == 1 else size)


def _settled(path: Path, stack: ExitStack) -> Path:
    """Return a file that holds what a recorder, ended by force, had left in its log beside it."""
    log = path.with_name(f'{path.name}-wal')
    if not log.is_file() or not log.stat().st_size:
        return path
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix='cigocc_bag_')))
    try:
        copy = Path(shutil.copy(path, folder))
        shutil.copy(log, folder)
    except OSError as error:
        raise DataFileError(
            f'{path}: {log.name} holds more of it, which cannot be read: {error}'
        ) from error
    with closing(sqlite3.connect(copy)) as database:
        database.execute('PRAGMA wal_checkpoint(TRUNCATE)')
        database.execute('PRAGMA journal_mode=DELETE')
    return copy


def _connected(path: Path) -> sqlite3.Connection:
    """Open a database that nobody writes to, also where its folder is read-only."""
    uri = f'file:{quote(str(path.resolve()))}?mode=ro&immutable=1'
    try:
        return sqlite3.connect(uri, uri=True, check_same_thread=False)
    except sqlite3.Error as error:
        raise DataFileError(f'{path}: cannot be opened: {error}') from error


class McapFile:
    """A .mcap with an index, or without one, as recorders leave it that end by force."""

    def __init__(self, path: Path) -> None:
        """Read the index; raise DataFileError where there is nothing to read."""
        self.path, self.problem = path, ''
        self.channels: dict[Channel, int] = {}
        self.start_ns: int | None = None
        self._by_id: dict[int, Channel] = {}
        self._indexed = self._read_index()
        if not self._indexed:
            self._scan()

    def _broken(self, error: object) -> DataFileError:
        found = str(error) or type(error).__name__
        return DataFileError(f'{self.path}: cut off or damaged: {found}; {RECOVER["mcap"]}')

    def _read_index(self) -> bool:
        """Take channels and counts from the end of the file; say whether they are there."""
        reader = library('mcap.reader')
        try:
            with self.path.open('rb') as stream:
                summary = reader.SeekingReader(stream).get_summary()
        except Exception:  # its library raises anything at a file that was cut
            return False
        if summary is None or summary.statistics is None or not summary.chunk_indexes:
            return False
        counts, kinds = summary.statistics.channel_message_counts, {0: ''}
        kinds |= {schema.id: schema.name for schema in summary.schemas.values()}
        channels = summary.channels.values()
        # writers may leave any of it out
        if sum(counts.values()) != summary.statistics.message_count:
            return False
        if not {channel.schema_id for channel in channels} <= set(kinds):
            return False
        if not set(counts) <= set(summary.channels):
            return False
        for channel in channels:
            self._note(channel, kinds[channel.schema_id], counts.get(channel.id, 0))
        self.start_ns = summary.statistics.message_start_time
        return True

    def _note(self, channel: McapChannel, kind: str, count: int) -> Channel:
        qos = channel.metadata.get('offered_qos_profiles', '')
        made = Channel(channel.topic, kind, channel.message_encoding, qos)
        self._by_id[channel.id] = made
        self.channels[made] = self.channels.get(made, 0) + count
        return made

    def _scan(self) -> None:
        """Read the whole file once, as far as it goes."""
        times = []
        try:
            for one in self._in_file_order():
                self.channels[one.channel] += 1
                times.append(one.time_ns)
        except DataFileError as error:
            if not times:
                raise
            self.problem = str(error)
        self.start_ns = min(times, default=None)

    def _in_file_order(self) -> Iterator[Recorded]:
        records, reader = library('mcap.records'), library('mcap.stream_reader')
        kinds: dict[int, str] = {0: ''}
        try:
            with self.path.open('rb') as stream:
                for record in reader.StreamReader(stream).records:
                    if isinstance(record, records.Schema):
                        kinds[record.id] = record.name
                    elif isinstance(record, records.Channel) and record.id not in self._by_id:
                        self._note(record, kinds.get(record.schema_id, ''), 0)
                    elif isinstance(record, records.Message):
                        channel = self._by_id[record.channel_id]
                        yield _message(channel, record.log_time, record.data)
        except Exception as error:  # its library raises anything at a file that was cut
            raise self._broken(error) from error

    def messages(self, wanted: Collection[Channel]) -> Iterator[Recorded]:
        """Yield by time where the file has an index, else as they were written."""
        found = self._by_time({one.topic for one in wanted}) if self._indexed else None
        for one in found or self._in_file_order():
            if one.channel in wanted:
                yield one

    def _by_time(self, topics: Collection[str]) -> Iterator[Recorded]:
        reader = library('mcap.reader')
        try:
            with self.path.open('rb') as stream:
                by_time = reader.SeekingReader(stream, validate_crcs=True).iter_messages(topics)
                for _, channel, message in by_time:
                    yield _message(self._by_id[channel.id], message.log_time, message.data)
        except Exception as error:  # as above
            raise self._broken(error) from error

    def close(self) -> None:
        """Do nothing: it is open while it is read."""
