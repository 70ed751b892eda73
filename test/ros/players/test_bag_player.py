"""Bags through our own player: the recorded bytes in order, to a listener and to the node."""

import numpy as np
import pytest

pytest.importorskip('rclpy')
pytest.importorskip('rosbags')

from fixtures_processes import command, occ_command, process, wait_for_line
from fixtures_ros import Graph
from fixtures_sequence import build_sequence
from fixtures_tiny_model import build_tiny_model_dir
from rclpy.qos import QoSProfile
from rosbags.highlevel import AnyReader
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from cigocc_ros.core.errors import ConfigError, DataFileError
from cigocc_ros.data.bag import BagContent, write_bag
from cigocc_ros.data.kitti_sequence import KittiSequence
from cigocc_ros.ros.players.bag_player import message_type, open_bag
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
    with pytest.raises(DataFileError, match='cannot be read as a bag'):
        open_bag(str(tmp_path))


def test_types_that_are_not_installed_are_known():
    assert message_type('sensor_msgs/msg/Image') is Image
    assert message_type('not_there_msgs/msg/Thing') is None
    assert message_type('sensor_msgs/msg/Thing') is None
