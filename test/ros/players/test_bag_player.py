"""Bags through our own player: the recorded bytes in order, to a listener and to the node."""

import numpy as np
import pytest

pytest.importorskip('rclpy')
pytest.importorskip('rosbags')

from fixtures_bags import (
    BEST_EFFORT,
    FIRST_NS,
    QOS,
    RELIABLE,
    STEP_NS,
    chatter,
    clock_message,
    cut,
    text_message,
    write_humble,
)
from fixtures_processes import command, occ_command, process, wait_for_line
from fixtures_ros import Graph
from fixtures_sequence import build_sequence
from fixtures_tiny_model import build_tiny_model_dir
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosbags.highlevel import AnyReader
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import String

from cigocc_ros.core.errors import ConfigError, DataFileError
from cigocc_ros.data.bag import BagContent, write_bag
from cigocc_ros.data.bag_files import Channel
from cigocc_ros.data.kitti_sequence import KittiSequence
from cigocc_ros.ros.players.bag_player import message_type, open_bag, qos_of
from cigocc_ros.ros.stamps import stamp_to_ns

LEFT = '/kitti/camera_color_left'
REMAPS = {'image': f'{LEFT}/image_rect', 'camera_info': f'{LEFT}/camera_info'}


@pytest.fixture(scope='module', params=['mcap', 'sqlite3'])
def bag(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp('bag')
    sequence = KittiSequence(build_sequence(folder / 'sequences' / '00'))
    out = folder / 'recorded'
    write_bag(sequence, out, request.param, BagContent(right=True, ground_truth=True))
    return out


def played(bag, *more: str) -> list[str]:
    return command('bag_player', {'bag': bag, 'wait_for_subscribers': 3, 'linger_s': 0.2}, *more)


def test_what_was_recorded_is_heard(graph: Graph, bag, tmp_path):
    deep = QoSProfile(depth=50)
    images = graph.hear(Image, REMAPS['image'], deep)
    infos = graph.hear(CameraInfo, REMAPS['camera_info'], deep)
    truths = graph.hear(PointCloud2, '/kitti/ground_truth', deep)
    output = tmp_path / 'player.log'
    with process(played(bag), output) as child:
        graph.until(lambda: child.poll() is not None)
        assert child.returncode == 0, output.read_text()
    with AnyReader([bag]) as reader:
        recorded = {}
        for connection, _, raw in reader.messages():
            message = reader.deserialize(raw, connection.msgtype)
            recorded.setdefault(connection.topic, []).append(message)
    assert len(images) == len(infos) == len(recorded[REMAPS['image']]) > 1
    for heard, wanted in zip(images, recorded[REMAPS['image']], strict=True):
        assert heard.header.stamp.sec == wanted.header.stamp.sec
        np.testing.assert_array_equal(np.frombuffer(heard.data, np.uint8), wanted.data)
    assert len(truths) == len(recorded['/kitti/ground_truth'])
    assert 'messages played' in output.read_text()


def test_the_node_makes_voxels_of_a_bag(graph: Graph, bag, tmp_path):
    clouds = graph.hear(PointCloud2, 'occ/occupancy', QoSProfile(depth=50))
    model = build_tiny_model_dir(tmp_path / 'model')
    remaps = [word for pair in REMAPS.items() for word in ('-r', ':='.join(pair))]
    words = [*occ_command(model), *remaps]
    with process(words, tmp_path / 'occ.log') as node:
        wait_for_line(tmp_path / 'occ.log', 'ready: model handmade', node)
        graph.until(lambda: graph.offered('occ/occupancy'))
        rate = ['-p', 'rate:=0.5', '-p', 'wait_for_subscribers:=2']
        with process(played(bag, *rate), tmp_path / 'player.log') as player:
            graph.until(lambda: player.poll() is not None)
            assert player.returncode == 0, (tmp_path / 'player.log').read_text()
        graph.until(lambda: clouds)
    assert stamp_to_ns(clouds[0].header.stamp) >= 1_000_000_000


def test_a_loop_starts_again(graph: Graph, bag, tmp_path):
    infos = graph.hear(CameraInfo, REMAPS['camera_info'], QoSProfile(depth=50))
    words = played(bag, '-p', 'loop:=true', '-p', 'rate:=20.0', '-p', 'wait_for_subscribers:=1')
    with process(words, tmp_path / 'player.log'):
        graph.until(lambda: len(infos) > 12)
    stamps = [stamp_to_ns(info.header.stamp) for info in infos]
    assert len(set(stamps)) < len(stamps) and stamps[0] == min(stamps)


def test_it_waits_for_those_who_listen_to_one_topic(graph: Graph, bag, tmp_path):
    """RViz on the ground truth does not start a bag that the node should hear."""
    truths = graph.hear(PointCloud2, '/kitti/ground_truth', QoSProfile(depth=50))
    clocks = graph.hear(Clock, '/clock')
    words = command('bag_player', {'bag': bag, 'wait_for_topic': REMAPS['camera_info']})
    with process(words, tmp_path / 'player.log') as child:
        graph.until(lambda: len(clocks) > 200)  # two seconds, longer than it waits once matched
        assert not truths and child.poll() is None
        infos = graph.hear(CameraInfo, REMAPS['camera_info'], QoSProfile(depth=50))
        graph.until(lambda: child.poll() is not None)
        assert child.returncode == 0
    assert len(infos) == len(truths) == 3


def test_a_topic_that_is_not_in_the_bag_is_refused(graph: Graph, bag, tmp_path):
    output = tmp_path / 'player.log'
    with process(command('bag_player', {'bag': bag, 'wait_for_topic': '/lidar'}), output) as child:
        graph.until(lambda: child.poll() is not None)
        assert child.returncode == 1
    assert 'one of /kitti/camera_color_left/camera_info' in output.read_text()


def test_what_is_no_bag_is_refused(tmp_path):
    with pytest.raises(ConfigError, match='parameter bag is not set'):
        open_bag('')
    with pytest.raises(DataFileError, match='metadata.yaml'):
        open_bag(str(tmp_path))
    (tmp_path / 'metadata.yaml').write_text('rosbag2_bagfile_information: 7\n')
    with pytest.raises(DataFileError, match='ros2 bag reindex'):
        open_bag(str(tmp_path))


def test_types_that_are_not_installed_are_known():
    assert message_type('sensor_msgs/msg/Image') is Image
    assert message_type('not_there_msgs/msg/Thing') is None
    assert message_type('sensor_msgs/msg/Thing') is None


def test_the_recorded_qos_is_offered_again():
    offers = {text: qos_of(Channel('/a', 'x', qos=text)) for text in (RELIABLE, BEST_EFFORT)}
    assert offers[RELIABLE].reliability == ReliabilityPolicy.RELIABLE
    assert offers[BEST_EFFORT].reliability == ReliabilityPolicy.BEST_EFFORT
    assert {one.depth for one in offers.values()} == {10}  # depth 0 was recorded
    words = '- {reliability: best_effort, durability: transient_local, depth: 30, history: x}'
    latched = qos_of(Channel('/a', 'x', qos=words))
    assert latched.durability == DurabilityPolicy.TRANSIENT_LOCAL and latched.depth == 30
    mixed = qos_of(Channel('/a', 'x', qos=f'{RELIABLE}\n{BEST_EFFORT}'))
    assert mixed.reliability == ReliabilityPolicy.RELIABLE
    assert mixed.durability == DurabilityPolicy.VOLATILE
    unknown = qos_of(Channel('/a', 'x', qos=QOS.format(3, 'best_available')))
    assert unknown.reliability == ReliabilityPolicy.RELIABLE
    assert qos_of(Channel('/a', 'x')).depth == 10


def play(graph: Graph, bag, tmp_path, *more: str):
    """Play a bag to its end; return exit code, output and the texts heard on /chatter."""
    heard = graph.hear(String, '/chatter', QoSProfile(depth=100))
    output = tmp_path / 'player.log'
    words = command('bag_player', {'bag': bag, 'linger_s': 0.2, 'rate': 10.0}, *more)
    with process(words, output) as child:
        graph.until(lambda: child.poll() is not None)
    graph.until(lambda: True)
    return child.returncode, output.read_text(), [message.data for message in heard]


WANTED = [f'message {index}' for index in range(12)]


def test_strange_topics_are_left_out_by_name(graph: Graph, tmp_path):
    """One odd type spoils nothing: the bags of Humble and of service calls."""
    strange = [
        ('/service', 'test_msgs/srv/BasicTypes_Event', '', 1),
        ('/unknown', 'nowhere_msgs/msg/Thing', RELIABLE, 2),
        ('/typeless', '', '', 1),
        ('/old', 'std_msgs/String', '', 1),
        ('/bad name!', 'std_msgs/msg/String', '', 3),
        ('/bad_qos', 'std_msgs/msg/String', 'a: [', 1),
    ]
    topics = [(n, k, q, [(FIRST_NS, text_message('x'))] * count) for n, k, q, count in strange]
    bag = write_humble(tmp_path / 'bag', [chatter(), *topics], splits=2)
    code, output, texts = play(graph, bag, tmp_path, '-p', 'wait_for_topic:=/chatter')
    assert (code, texts) == (0, WANTED), output
    for name, *_ in strange:
        assert f'{name} left out: ' in output
    assert 'no nowhere_msgs/msg/Thing here' in output
    assert '12 messages played on 1 topics' in output
    assert '/unknown (2)' in output and '/bad name! (3)' in output


def test_a_bag_that_was_cut_is_played_as_far_as_it_goes_and_says_so(graph: Graph, tmp_path):
    bag = write_humble(tmp_path / 'bag', [chatter(500)])
    cut(bag / 'bag_0.db3', 0.5)
    code, output, texts = play(graph, bag, tmp_path, '-p', 'rate:=100.0')
    assert code == 1 and 20 < len(texts) < 500
    assert 'cut off or damaged' in output and 'the bag should hold 500 messages' in output


def test_a_bag_that_holds_less_than_it_says(graph: Graph, tmp_path):
    bag = write_humble(tmp_path / 'bag', [chatter()])
    metadata = bag / 'metadata.yaml'
    metadata.write_text(metadata.read_text().replace('message_count: 12', 'message_count: 13'))
    code, output, texts = play(graph, bag, tmp_path)
    assert (code, texts) == (1, WANTED)
    assert 'should hold 13' in output


def test_a_lone_file_and_an_empty_bag(graph: Graph, tmp_path):
    bag = write_humble(tmp_path / 'bag', [chatter()])
    code, _, texts = play(graph, bag / 'bag_0.db3', tmp_path)
    assert (code, texts) == (0, WANTED)
    empty = write_humble(tmp_path / 'empty', [chatter(0)])
    code, output, _ = play(graph, empty, tmp_path)
    assert code == 1 and '0 messages played' in output


def test_a_pause_of_years_is_not_waited_for(graph: Graph, tmp_path):
    """The clock of the robot was set while it recorded."""
    name, kind, qos, messages = chatter()
    early = [(i * STEP_NS, data) for i, (_, data) in enumerate(messages[:6])]
    bag = write_humble(tmp_path / 'bag', [(name, kind, qos, early + messages[6:])])
    code, output, texts = play(graph, bag, tmp_path)
    assert (code, texts) == (0, WANTED)
    assert 'not waited for' in output


def test_a_recorded_clock_is_the_only_one(graph: Graph, tmp_path):
    """A simulator's bag: stamps of 100 s, received at 1.7e9 s."""
    ticks = [(FIRST_NS + i * STEP_NS, clock_message(100 * 10**9 + i * STEP_NS)) for i in range(12)]
    clock = ('/clock', 'rosgraph_msgs/msg/Clock', RELIABLE, ticks)
    bag = write_humble(tmp_path / 'bag', [chatter(), clock])
    clocks = graph.hear(Clock, '/clock', QoSProfile(depth=1000))
    code, output, texts = play(graph, bag, tmp_path, '-p', 'wait_for_topic:=/chatter')
    assert (code, texts) == (0, WANTED)
    times = [stamp_to_ns(message.clock) for message in clocks]
    assert times == sorted(times), 'jumps back'
    assert times[0] == 100 * 10**9 and times[-1] == 100 * 10**9 + 11 * STEP_NS
    assert '/clock is that of the bag' in output
    del clocks[:]
    code, output, _ = play(graph, bag, tmp_path, '-p', 'clock:=false')
    assert code == 0 and not clocks and '/clock left out: clock is false' in output


def test_the_bag_of_rosbag2_itself_is_heard(graph: Graph, tmp_path, shared_dir):
    """Recorded by Foxy: 10 of std_msgs/msg/String on /topic, 10 of /rosout."""
    bag = shared_dir / 'data' / 'rosbag2_bags' / 'humble' / 'rosbag2_py__talker'
    if not bag.is_dir():
        pytest.skip('no bags of rosbag2 here')
    heard = graph.hear(String, '/topic', QoSProfile(depth=100))
    code, output, _ = play(graph, bag, tmp_path, '-p', 'wait_for_topic:=/topic')
    assert code == 0 and '20 messages played on 2 topics' in output, output
    assert len(heard) == 10 and heard[0].data.startswith('Hello, world!')
