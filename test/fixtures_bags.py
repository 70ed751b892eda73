"""Bags as other people's recorders leave them: every version, storage, compression and damage."""

from __future__ import annotations

import sqlite3
import struct
from pathlib import Path

import yaml
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

STORE = get_typestore(Stores.ROS2_HUMBLE)
FIRST_NS = 1_700_000_000_000_000_000
STEP_NS = 100_000_000
# of an unknown history and depth 0, as rosbag2 records what rmw does not tell
QOS = (
    '- history: 3\n  depth: 0\n  reliability: {0}\n  durability: {1}\n'
    '  deadline:\n    sec: 9223372036\n    nsec: 854775807\n'
    '  lifespan:\n    sec: 9223372036\n    nsec: 854775807\n  liveliness: 1\n'
    '  liveliness_lease_duration:\n    sec: 9223372036\n    nsec: 854775807\n'
    '  avoid_ros_namespace_conventions: false'
)
RELIABLE, BEST_EFFORT, LATCHED = QOS.format(1, 2), QOS.format(2, 2), QOS.format(1, 1)


def text_message(text: str) -> bytes:
    """Return std_msgs/String as CDR."""
    content = text.encode() + b'\0'
    return b'\0\1\0\0' + struct.pack('<I', len(content)) + content


def clock_message(time_ns: int) -> bytes:
    """Return rosgraph_msgs/Clock as CDR."""
    return b'\0\1\0\0' + struct.pack('<iI', *divmod(time_ns, 10**9))


def texts(count: int) -> list[bytes]:
    return [text_message(f'message {index}') for index in range(count)]


def write_bag(
    folder: Path,
    storage: StoragePlugin = StoragePlugin.SQLITE3,
    version: int = 8,
    compression: CompressionMode = CompressionMode.NONE,
    count: int = 12,
) -> Path:
    """Write `count` texts on /chatter with the library rosbags, which is not what reads them."""
    writer = Writer(folder, version=version, storage_plugin=storage)
    writer.set_compression(compression, CompressionFormat.ZSTD)
    with writer:
        channel = writer.add_connection('/chatter', 'std_msgs/msg/String', typestore=STORE)
        for index, data in enumerate(texts(count)):
            writer.write(channel, FIRST_NS + index * STEP_NS, data)
    return folder


Topic = tuple[str, str, str, list[tuple[int, bytes]]]
"""Name, type, QoS, messages (time, bytes)."""


def write_humble(folder: Path, topics: list[Topic], splits: int = 1, schema: int = 2) -> Path:
    """Write what `ros2 bag record` of Humble does: sqlite3 of schema 2, without definitions.

    The statements are those of rosbag2_storage_sqlite3/sqlite_storage.cpp, branch humble; schema
    1, before Foxy, has no QoS. Metadata is version 5 (rosbag2_storage/metadata_io.cpp).
    """
    folder.mkdir(parents=True)
    everything = sorted(
        (time_ns, number, data)
        for number, (_, _, _, messages) in enumerate(topics, 1)
        for time_ns, data in messages
    )
    per_file = -(-len(everything) // splits) or 1
    names = [f'{folder.name}_{index}.db3' for index in range(splits)]
    for index, name in enumerate(names):
        part = everything[index * per_file : (index + 1) * per_file]
        _write_database(folder / name, topics, part, schema)
    (folder / 'metadata.yaml').write_text(yaml.safe_dump(_metadata(topics, names, everything)))
    return folder


def _write_database(
    path: Path, topics: list[Topic], messages: list[tuple[int, int, bytes]], schema: int
) -> None:
    qos = ',offered_qos_profiles TEXT NOT NULL' if schema > 1 else ''
    with sqlite3.connect(path) as database:
        database.execute(
            'CREATE TABLE topics(id INTEGER PRIMARY KEY,name TEXT NOT NULL,type TEXT NOT NULL,'
            f'serialization_format TEXT NOT NULL{qos})'
        )
        database.execute(
            'CREATE TABLE messages(id INTEGER PRIMARY KEY,topic_id INTEGER NOT NULL,'
            'timestamp INTEGER NOT NULL, data BLOB NOT NULL)'
        )
        database.execute('CREATE INDEX timestamp_idx ON messages (timestamp ASC)')
        for number, (name, kind, offered, _) in enumerate(topics, 1):
            row = (number, name, kind, 'cdr', offered)[: 5 if schema > 1 else 4]
            marks = ','.join('?' * len(row))
            database.execute(f'INSERT INTO topics VALUES({marks})', row)
        for time_ns, number, data in messages:
            database.execute(
                'INSERT INTO messages(topic_id, timestamp, data) VALUES(?, ?, ?)',
                (number, time_ns, data),
            )
    database.close()


def _metadata(topics: list[Topic], names: list[str], everything: list) -> dict:
    first = everything[0][0] if everything else 0
    last = everything[-1][0] if everything else 0
    counted = [
        {
            'topic_metadata': {
                'name': name,
                'type': kind,
                'serialization_format': 'cdr',
                'offered_qos_profiles': qos,
            },
            'message_count': len(messages),
        }
        for name, kind, qos, messages in topics
    ]
    return {
        'rosbag2_bagfile_information': {
            'version': 5,
            'storage_identifier': 'sqlite3',
            'relative_file_paths': names,
            'duration': {'nanoseconds': last - first},
            'starting_time': {'nanoseconds_since_epoch': first},
            'message_count': len(everything),
            'topics_with_message_count': counted,
            'compression_format': '',
            'compression_mode': '',
        }
    }


def chatter(count: int = 12, qos: str = RELIABLE) -> Topic:
    """Return a topic of texts, ten a second."""
    messages = [(FIRST_NS + i * STEP_NS, data) for i, data in enumerate(texts(count))]
    return '/chatter', 'std_msgs/msg/String', qos, messages


def cut(path: Path, share: float) -> None:
    """Leave only the beginning of a file, as a full disk or a pulled plug does."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
