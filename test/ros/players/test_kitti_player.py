"""kitti_player, and the whole way over DDS: player, node and this process."""

import os
import signal
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rclpy')

from fixtures_processes import ENDS_WITHIN_S, command, process, wait_for_line
from fixtures_sequence import build_label_images, build_sequence
from fixtures_tiny_model import build_tiny_model_dir, expected_outputs
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from cigocc_ros.core.errors import ConfigError, DataFileError
from cigocc_ros.replay.cloud_reading import points_from_cloud
from cigocc_ros.ros.players.kitti_player import KittiPlayer, open_sequence
from cigocc_ros.ros.stamps import stamp_to_ns

FIRST_NS = 10**9


@pytest.fixture(scope='module')
def sequence_dir(tmp_path_factory):
    return build_sequence(tmp_path_factory.mktemp('sequence') / '07')


@pytest.fixture
def play(graph):
    """Return a function that plays a sequence in this process until it is done."""

    def start(topics: dict[str, type], frames: int = 3, **parameters) -> SimpleNamespace:
        queue = QoSProfile(depth=50)
        heard = {topic: graph.hear(kind, topic, queue) for topic, kind in topics.items()}
        overrides = [Parameter(name, value=value) for name, value in parameters.items()]
        player = KittiPlayer(context=graph.context, parameter_overrides=overrides)
        graph.executor.add_node(player)
        graph.until(lambda: player.done and len(heard['image']) >= frames)
        names = {name for name, _ in graph.observer.get_topic_names_and_types()}
        player.destroy_node()
        return SimpleNamespace(heard=heard, names=names)

    return start


def stamps(messages) -> list[int]:
    return [stamp_to_ns(message.header.stamp) for message in messages]


def test_every_frame_is_played_with_its_stamp(play, sequence_dir):
    topics = {'image': Image, 'camera_info': CameraInfo, 'right/image': Image, '/clock': Clock}
    heard = play(topics, sequence=str(sequence_dir), rate=2.0, linger_s=0.1).heard
    expected = [FIRST_NS, FIRST_NS + 100_000_000, FIRST_NS + 200_000_000]
    assert stamps(heard['image']) == stamps(heard['right/image']) == expected
    assert stamps(heard['camera_info']) == expected
    clock = [stamp_to_ns(message.clock) for message in heard['/clock']]
    assert clock == sorted(clock) and clock[0] == FIRST_NS and clock[-1] >= expected[-1]


def test_a_part_without_right_camera_and_with_depth(play, sequence_dir):
    topics = {'image': Image, 'camera_info': CameraInfo, 'depth': Image}
    part = {'start': 1, 'end': 2, 'right': False, 'depth': True}
    result = play(topics, frames=1, sequence=str(sequence_dir), linger_s=0.2, **part)
    assert stamps(result.heard['image']) == [FIRST_NS + 100_000_000]  # as in a bag
    assert len(result.heard['depth']) == 1
    assert '/right/image' not in result.names


def test_label_images_are_played_with_their_images(play, sequence_dir, tmp_path):
    labels = build_label_images(tmp_path, '07', frames=2)
    topics = {'image': Image, 'camera_info': CameraInfo, 'semantic_prior': Image}
    asked = {'semantic_prior': str(labels), 'right': False, 'rate': 5.0, 'linger_s': 0.2}
    heard = play(topics, sequence=str(sequence_dir), **asked).heard
    assert stamps(heard['semantic_prior']) == stamps(heard['image'])[:2]
    first = heard['semantic_prior'][0]
    assert (first.encoding, first.width, first.height) == ('mono8', 80, 24)
    assert first.header.frame_id == heard['image'][0].header.frame_id


def test_without_clock_frames_carry_the_present_time(play, sequence_dir):
    topics = {'image': Image, 'camera_info': CameraInfo}
    result = play(topics, sequence=str(sequence_dir), clock=False, rate=5.0, linger_s=0.2)
    assert '/clock' not in result.names
    assert min(stamps(result.heard['image'])) > 1_600_000_000 * 10**9


def test_sequences_that_cannot_be_played(graph, tmp_path):
    with pytest.raises(ConfigError, match='sequence is not set'):
        KittiPlayer(context=graph.context)
    with pytest.raises(DataFileError, match='nowhere'):
        open_sequence(str(tmp_path / 'nowhere'))


def test_from_files_to_voxels_over_dds(graph, sequence_dir, tmp_path):
    """Three processes: the player, the node with a real ONNX file, and this one."""
    pytest.importorskip('onnxruntime')
    model = build_tiny_model_dir(tmp_path / 'model')
    extrinsics, namespace = tmp_path / 'extrinsics.yaml', ['-r', '__ns:=/car']
    player = {'sequence': sequence_dir, 'write_extrinsics': extrinsics}
    with process(command('kitti_player', player), tmp_path / 'write.log') as child:
        assert child.wait(ENDS_WITHIN_S) == 0, (tmp_path / 'write.log').read_text()

    clouds = graph.hear(PointCloud2, '/car/occ/occupancy')
    truths = graph.hear(PointCloud2, '/car/ground_truth')
    node = {'model': model, 'threads': 1, 'prior.source': 'none', 'use_sim_time': 'true'}
    node_words = command('occ_node', node, '--params-file', str(extrinsics), *namespace)
    player = {'sequence': sequence_dir, 'loop': 'true'}
    occ_log, player_log = tmp_path / 'occ.log', tmp_path / 'player.log'
    with process(node_words, occ_log) as occ:
        wait_for_line(occ_log, 'ready', occ)
        with process(command('kitti_player', player, *namespace), player_log) as playing:
            graph.until(lambda: len(clouds) >= 3 and truths)
            os.killpg(playing.pid, signal.SIGINT)
            assert playing.wait(ENDS_WITHIN_S) == 0, player_log.read_text()
        os.killpg(occ.pid, signal.SIGINT)
        assert occ.wait(ENDS_WITHIN_S) == 0, occ_log.read_text()
    assert 'Traceback' not in occ_log.read_text() + player_log.read_text()
    check_cloud(clouds[0], sequence_dir, model)


def check_cloud(cloud: PointCloud2, sequence_dir, model) -> None:
    """Compare a cloud with what the handmade network answers by hand."""
    from cigocc_ros.core.frames import CameraFrame
    from cigocc_ros.core.manifest import load_manifest
    from cigocc_ros.data.rig import rig_of_sequence
    from cigocc_ros.runtime.preprocess import Preprocessor

    sequence, manifest = open_sequence(str(sequence_dir)), load_manifest(model)
    frame_index = round((stamp_to_ns(cloud.header.stamp) - FIRST_NS) / 1e8) % 3
    left = rig_of_sequence(sequence).left
    image = sequence.image(frame_index)
    frame = CameraFrame(image, left.model, left.cam_from_velo, 0, 'cam')
    expected = expected_outputs(Preprocessor(manifest.image_size)(frame), manifest)
    points = points_from_cloud(cloud)
    centers = np.stack([points[axis] for axis in 'xyz'], axis=-1)
    index, inside = manifest.voxel_grid.index_of(centers)
    assert cloud.header.frame_id == 'velo_link' and inside.all()
    labels = np.zeros(manifest.voxel_grid.shape, np.uint8)
    labels[tuple(index.T)] = points['label']
    np.testing.assert_array_equal(labels, expected['labels'][0])
    assert len(points) > 100
