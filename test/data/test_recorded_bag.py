"""Bags of strangers: whatever `ros2 bag record` of Foxy to Kilted leaves is read, or named."""

import itertools
import os
import shutil
import sqlite3
import subprocess
import sys

import pytest
from fixtures_bags import (
    FIRST_NS,
    STEP_NS,
    chatter,
    cut,
    text_message,
    texts,
    write_bag,
    write_humble,
)
from mcap.writer import CompressionType, IndexType
from mcap.writer import Writer as McapWriter
from rosbags.rosbag2 import CompressionMode, StoragePlugin

from cigocc_ros.core.errors import ConfigError, DataFileError
from cigocc_ros.data.recorded_bag import RecordedBag

MCAP, SQLITE = StoragePlugin.MCAP, StoragePlugin.SQLITE3
VARIANTS = [
    (storage, version, mode)
    for storage, version, mode in itertools.product((MCAP, SQLITE), (8, 9), CompressionMode)
    if (storage, mode) != (SQLITE, CompressionMode.STORAGE)
]


def read(path):
    """Return the messages of a bag, and what it says is wrong."""
    bag = RecordedBag.open(path)
    try:
        return list(bag.messages(bag.channels)), bag
    finally:
        bag.close()


def assert_chatter(messages, count=12):
    assert [one.data for one in messages] == texts(count)
    assert [one.time_ns for one in messages] == [FIRST_NS + i * STEP_NS for i in range(count)]
    assert {(one.channel.topic, one.channel.kind) for one in messages} == {
        ('/chatter', 'std_msgs/msg/String')
    }


@pytest.mark.parametrize(('storage', 'version', 'mode'), VARIANTS)
def test_every_version_storage_and_compression(tmp_path, storage, version, mode):
    messages, bag = read(write_bag(tmp_path / 'bag', storage, version, mode))
    assert_chatter(messages)
    assert not bag.problems and bag.promised == 12 and bag.start_ns == FIRST_NS


@pytest.mark.parametrize('schema', [1, 2])
@pytest.mark.parametrize('splits', [1, 3, 11])
def test_sqlite_without_definitions(tmp_path, schema, splits):
    """Humble's default, and what older ones wrote; split bags go on in the order of time."""
    folder = write_humble(tmp_path / 'bag', [chatter(24)], splits, schema)
    messages, bag = read(folder)
    assert_chatter(messages, 24)
    assert not bag.problems
    (folder / 'metadata.yaml').unlink()
    again, bag = read(folder)
    assert_chatter(again, 24)
    assert 'ros2 bag reindex' in bag.problems[0] and not bag.is_broken


@pytest.mark.parametrize('storage', [MCAP, SQLITE])
def test_a_lone_file_is_a_bag(tmp_path, storage):
    folder = write_bag(tmp_path / 'bag', storage)
    (file,) = (path for path in folder.iterdir() if path.suffix in ('.mcap', '.db3'))
    odd = tmp_path / 'what is # this? 100%'
    shutil.copy(file, odd)
    for path in (file, odd, folder / 'metadata.yaml'):
        assert_chatter(read(path)[0])


def test_metadata_that_cannot_be_trusted(tmp_path):
    folder = write_humble(tmp_path / 'bag', [chatter()], 2)
    for text in ('', 'a: [', 'rosbag2_bagfile_information: 7', '\xff', 'x: &a [1]\ny: *a'):
        (folder / 'metadata.yaml').write_text(text, encoding='latin-1')
        messages, bag = read(folder)
        assert_chatter(messages)
        assert 'metadata.yaml' in bag.problems[0] and 'ros2 bag reindex' in bag.problems[0]


def test_an_empty_or_unknown_storage_id_does_not_matter(tmp_path):
    folder = write_humble(tmp_path / 'bag', [chatter()])
    metadata = folder / 'metadata.yaml'
    text = metadata.read_text()
    for other in ("storage_identifier: ''", 'storage_identifier: my_plugin'):
        metadata.write_text(text.replace('storage_identifier: sqlite3', other))
        assert_chatter(read(folder)[0])
    metadata.write_text(text.replace('version: 5', 'version: 42'))
    assert_chatter(read(folder)[0])


def test_paths_that_begin_with_the_folder(tmp_path):
    """As versions 1 to 3 wrote them, and some of 4 (sequential_compression_reader.cpp)."""
    folder = write_humble(tmp_path / 'bag', [chatter()])
    metadata = folder / 'metadata.yaml'
    metadata.write_text(metadata.read_text().replace('- bag_0.db3', '- bag/bag_0.db3'))
    messages, bag = read(folder)
    assert_chatter(messages)
    assert not bag.problems


def test_a_file_that_is_missing_or_renamed(tmp_path):
    folder = write_humble(tmp_path / 'bag', [chatter()], 2)
    (folder / 'bag_1.db3').unlink()
    messages, bag = read(folder)
    assert_chatter(messages, 6)
    assert 'bag_1.db3, which is not there' in bag.problems[0] and bag.promised == 12
    (folder / 'bag_0.db3').rename(folder / 'other.db3')
    assert_chatter(read(folder)[0], 6)


@pytest.mark.parametrize('share', [0.5, 0.9])
def test_a_sqlite_file_that_was_cut(tmp_path, share):
    folder = write_humble(tmp_path / 'bag', [chatter(2000)])
    cut(folder / 'bag_0.db3', share)
    messages, bag = read(folder)
    assert 100 < len(messages) < 2000
    assert [one.data for one in messages] == texts(2000)[: len(messages)]
    assert bag.is_broken and '.recover' in bag.problems[0]


@pytest.mark.parametrize('mode', [CompressionMode.NONE, CompressionMode.STORAGE])
def test_an_mcap_file_that_was_cut(tmp_path, mode):
    path = tmp_path / 'cut.mcap'
    compression = CompressionType.NONE if mode is CompressionMode.NONE else CompressionType.ZSTD
    write_mcap(path, texts(2000), compression=compression, chunk_size=2000)
    cut(path, 0.6)
    messages, bag = read(path)
    assert 100 < len(messages) < 2000
    assert [one.data for one in messages] == texts(2000)[: len(messages)]
    assert bag.is_broken and 'mcap recover' in bag.problems[0]


@pytest.mark.parametrize('where', [0.3, 0.7])
def test_a_damaged_chunk_ends_the_file_not_the_bag(tmp_path, where):
    folder = tmp_path / 'bag'
    folder.mkdir()
    write_mcap(folder / 'a_0.mcap', texts(2000), compression=CompressionType.NONE)
    write_mcap(folder / 'a_1.mcap', texts(12))
    content = bytearray((folder / 'a_0.mcap').read_bytes())
    content[int(where * len(content))] ^= 0xFF
    (folder / 'a_0.mcap').write_bytes(content)
    messages, bag = read(folder)
    assert bag.is_broken and 'a_0.mcap: cut off or damaged' in bag.problems[-1]
    assert [one.data for one in messages[-12:]] == texts(12)


@pytest.mark.parametrize('storage', [MCAP, SQLITE])
def test_a_compressed_file_that_was_cut(tmp_path, storage):
    folder = write_bag(tmp_path / 'bag', storage, compression=CompressionMode.FILE)
    (packed,) = folder.glob('*.zstd')
    cut(packed, 0.5)
    with pytest.raises(DataFileError, match=r'zstd: cut off or damaged|cut off or damaged'):
        read(folder)


def write_mcap(path, messages, compression=CompressionType.ZSTD, **options):
    """Write texts the way other recorders do; options go to the mcap library."""
    with path.open('wb') as stream:
        writer = McapWriter(stream, compression=compression, **options)
        writer.start(profile='', library='somebody')
        schema = writer.register_schema('std_msgs/msg/String', 'unknown', b'')
        channel = writer.register_channel('/chatter', 'cdr', schema)
        for index, data in enumerate(messages):
            time_ns = FIRST_NS + index * STEP_NS
            writer.add_message(channel, time_ns, data, time_ns)
        writer.finish()


@pytest.mark.parametrize(
    'options',
    [
        {'use_chunking': False},
        {'use_statistics': False},
        {'repeat_channels': False, 'repeat_schemas': False},
        {'index_types': IndexType.NONE, 'use_summary_offsets': False, 'use_statistics': False},
        {'compression': CompressionType.LZ4},
    ],
)
def test_mcap_of_other_writers(tmp_path, options):
    """Without chunks, index or definitions, of another profile and compression."""
    path = tmp_path / 'a.mcap'
    write_mcap(path, texts(12), **options)
    messages, bag = read(path)
    assert_chatter(messages)
    assert not bag.problems


def test_channels_are_told_apart(tmp_path):
    odd = ('/odd', 'strange_msgs/srv/Do_Event', '', [(FIRST_NS, b'\0\1\0\0')])
    messages, bag = read(write_humble(tmp_path / 'bag', [chatter(), odd]))
    assert [channel.kind for channel in bag.channels] == [
        'std_msgs/msg/String',
        'strange_msgs/srv/Do_Event',
    ]
    assert list(bag.channels.values()) == [12, 1] and len(messages) == 13
    (text, _) = bag.channels
    bag = RecordedBag.open(tmp_path / 'bag')
    assert_chatter(list(bag.messages([text])))
    bag.close()


KILLED = """
import os, sqlite3, sys
database = sqlite3.connect(sys.argv[1])
database.execute('PRAGMA journal_mode=WAL')
database.execute('PRAGMA wal_autocheckpoint=0')
for index in range(12, 20):
    text = f'message {index}'.encode() + b'\\0'
    data = b'\\0\\1\\0\\0' + len(text).to_bytes(4, 'little') + text
    time_ns = %d + index * %d
    database.execute('INSERT INTO messages(topic_id, timestamp, data) VALUES(1, ?, ?)',
                     (time_ns, data))
database.commit()
os.kill(os.getpid(), 9)
"""


def test_what_a_killed_recorder_left_in_its_log_is_read(tmp_path):
    folder = write_humble(tmp_path / 'bag', [chatter()])
    file = folder / 'bag_0.db3'
    script = KILLED % (FIRST_NS, STEP_NS)
    subprocess.run([sys.executable, '-c', script, str(file)], check=False)
    assert (folder / 'bag_0.db3-wal').stat().st_size
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert_chatter(read(folder)[0], 20)
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_folder_that_cannot_be_written(tmp_path):
    folder = write_humble(tmp_path / 'bag', [chatter()])
    os.chmod(folder, 0o555)
    try:
        assert_chatter(read(folder)[0])
    finally:
        os.chmod(folder, 0o755)


@pytest.mark.parametrize(
    ('content', 'found'),
    [
        (b'', 'an empty file'),
        (b'#ROSBAG V2.0\n', 'rosbags-convert'),
        (b'hello, world', 'begins with'),
        (b'\x89MCAP0\r\n', 'mcap recover'),
        (b'SQLite format 3\0', 'cut off or damaged'),
        (b'\x28\xb5\x2f\xfdrubbish', 'cut off or damaged'),
    ],
)
def test_what_is_no_bag_is_named(tmp_path, content, found):
    path = tmp_path / 'file.zstd'
    path.write_bytes(content)
    with pytest.raises(DataFileError, match=found):
        read(path)


def test_nothing_there_and_nothing_inside(tmp_path):
    with pytest.raises(DataFileError, match=r'a folder, or one \.mcap or \.db3'):
        read(tmp_path / 'none')
    with pytest.raises(DataFileError, match=r'expected a bag: metadata\.yaml'):
        read(tmp_path)


def test_a_database_of_something_else(tmp_path):
    with sqlite3.connect(tmp_path / 'a.db3') as database:
        database.execute('CREATE TABLE cats(name TEXT)')
    with pytest.raises(DataFileError, match='no such table|no such column'):
        read(tmp_path / 'a.db3')


def test_a_missing_library_is_named(tmp_path, monkeypatch):
    write_mcap(tmp_path / 'a.mcap', texts(3))
    monkeypatch.setitem(sys.modules, 'mcap.reader', None)
    with pytest.raises(ConfigError, match='pip install mcap'):
        read(tmp_path / 'a.mcap')
    # Humble's bags need none
    assert_chatter(read(write_humble(tmp_path / 'bag', [chatter()]))[0])


def reference_count(folder):
    """Count by the tables of the bag itself, without the code under test."""
    total = 0
    for path in folder.glob('*.db3'):
        database = sqlite3.connect(f'file:{path}?immutable=1', uri=True)
        total += database.execute('SELECT count(*) FROM messages').fetchone()[0]
        database.close()
    for path in folder.glob('*.mcap'):
        from mcap.reader import make_reader

        with path.open('rb') as stream:
            total += sum(1 for _ in make_reader(stream).iter_messages())
    return total


def test_the_bags_of_rosbag2_itself(shared_dir):
    bags = sorted((shared_dir / 'data' / 'rosbag2_bags').glob('*/*'))
    if not bags:
        pytest.skip('no bags of rosbag2 here')
    assert len(bags) > 20
    for folder in bags:
        messages, bag = read(folder)
        assert not bag.problems, folder
        assert len(messages) == bag.promised == reference_count(folder), folder
        times = [one.time_ns for one in messages]
        if len(bag.files) == 1:
            assert times == sorted(times), folder


def test_a_message_of_a_strange_kind_is_named(tmp_path):
    folder = write_humble(tmp_path / 'bag', [chatter()])
    with sqlite3.connect(folder / 'bag_0.db3') as database:
        database.execute("UPDATE messages SET data = 'text' WHERE id = 7")
    messages, bag = read(folder)
    assert_chatter(messages, 6)
    assert bag.is_broken and 'str, not bytes' in bag.problems[0]
    assert text_message('message 6') not in [one.data for one in messages]
