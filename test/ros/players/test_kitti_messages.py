"""What the player publishes of a KITTI sequence, and that bags carry the same messages."""

import shutil

import numpy as np
import pytest
import yaml

pytest.importorskip('rclpy')

from fixtures_sequence import build_label_images, build_sequence
from rclpy.serialization import serialize_message

from cigocc_ros.core.point_records import OCCUPANCY_DTYPE
from cigocc_ros.core.rotation import rigid_transform
from cigocc_ros.data.kitti_sequence import KittiSequence
from cigocc_ros.data.recording import TOPICS, Recording
from cigocc_ros.data.rig import camera_pose, rig_of_sequence
from cigocc_ros.ros.input.camera_info import geometry_from_info
from cigocc_ros.ros.input.depth_images import depth_from_image
from cigocc_ros.ros.input.extrinsics import ParameterExtrinsics
from cigocc_ros.ros.input.images import rgb_from_image
from cigocc_ros.ros.input.label_images import ids_from_message
from cigocc_ros.ros.players.kitti_messages import (
    frame_messages,
    static_transform,
    write_extrinsics,
)
from cigocc_ros.ros.stamps import stamp_from_ns


@pytest.fixture(scope='module')
def sequence(tmp_path_factory):
    return KittiSequence(build_sequence(tmp_path_factory.mktemp('sequence') / '07'))


@pytest.fixture(scope='module')
def labels(tmp_path_factory):
    return build_label_images(tmp_path_factory.mktemp('labels'), '07')


@pytest.fixture(scope='module')
def recording(sequence, labels):
    rig = rig_of_sequence(sequence, 'cam', 'right_cam')
    return Recording(sequence, rig, 'velo', label_root=labels)


def test_the_written_parameters_give_the_same_transform(recording, tmp_path):
    left = recording.rig.left
    write_extrinsics(tmp_path / 'extrinsics.yaml', camera_pose(left, 'velo_link'))
    content = yaml.safe_load((tmp_path / 'extrinsics.yaml').read_text())
    parameters = content['/**']['ros__parameters']
    given = parameters['extrinsics']
    found = ParameterExtrinsics(given['translation'], given['rotation']).cam_from_velo('any')
    np.testing.assert_allclose(found, left.cam_from_velo, atol=1e-9)
    assert parameters['output_frame'] == 'velo_link'


def test_static_transforms_are_the_poses_of_the_cameras(recording):
    poses = recording.rig.static_poses('velo')
    for pose, camera in zip(poses, recording.rig.cameras, strict=True):
        stamped = static_transform(pose, 5)
        assert (stamped.header.frame_id, stamped.child_frame_id) == ('velo', camera.frame_id)
        assert stamped.header.stamp == stamp_from_ns(5)
        t, q = stamped.transform.translation, stamped.transform.rotation
        found = rigid_transform([t.x, t.y, t.z], [q.x, q.y, q.z, q.w])
        np.testing.assert_allclose(found @ camera.cam_from_velo, np.eye(4), atol=1e-9)


def test_messages_of_a_frame(sequence, recording):
    messages = frame_messages(recording, '000001', TOPICS)
    assert set(messages) == set(TOPICS)
    np.testing.assert_array_equal(rgb_from_image(messages['image']), sequence.image(1))
    np.testing.assert_array_equal(
        rgb_from_image(messages['right/image']), sequence.image(1, 'right')
    )
    np.testing.assert_array_equal(depth_from_image(messages['depth']), sequence.depth('000001'))
    size = (messages['image'].width, messages['image'].height)
    rig = recording.rig
    for topic, camera in (('camera_info', rig.left), ('right/camera_info', rig.right)):
        assert geometry_from_info(messages[topic], size, raw=False).camera == camera.model
    assert {topic: message.header.frame_id for topic, message in messages.items()} == {
        'image': 'cam',
        'camera_info': 'cam',
        'right/image': 'right_cam',
        'right/camera_info': 'right_cam',
        'depth': 'cam',
        'semantic_prior': 'cam',
        'velodyne': 'velo',
        'ground_truth': 'velo',
    }
    assert messages['velodyne'].width == 20
    ids = ids_from_message(messages['semantic_prior'])
    assert ids.shape == (24, 80) and ids[:, 7].tolist() == list(range(1, 25))


def test_the_ground_truth_leaves_out_what_is_unknown(sequence, recording):
    made = frame_messages(recording, '000000', ['ground_truth'])
    points = np.frombuffer(made['ground_truth'].data, OCCUPANCY_DTYPE)
    assert points['label'].tolist() == [9, 1]
    expected = sequence.grid.center_of(np.array([[10, 20, 3], [11, 20, 3]]))
    np.testing.assert_allclose(np.stack([points[a] for a in 'xyz'], -1), expected, rtol=1e-6)


def test_what_a_sequence_lacks_is_left_out(sequence, tmp_path):
    copy = shutil.copytree(sequence.path, tmp_path / '08')
    for folder in ('image_3', 'depth_2', 'velodyne', 'voxels'):
        shutil.rmtree(copy / folder)
    bare = KittiSequence(copy)
    messages = frame_messages(Recording(bare, rig_of_sequence(bare)), '000000', TOPICS)
    assert set(messages) == {'camera_info', 'image'}


def test_a_bag_carries_the_messages_that_the_player_publishes(sequence, labels, tmp_path):
    """Compare every field of every topic, stamps too; rclpy leaves chance in padding bytes."""
    pytest.importorskip('rosbags')
    from rosbags.rosbag2 import Reader
    from rosbags.typesys import Stores, get_typestore

    from cigocc_ros.data.bag import BagContent, write_bag

    parts = {'right': True, 'depth': True, 'lidar': True, 'ground_truth': True}
    everything = BagContent(**parts, semantic_prior=labels, start=1, end=2)
    assert set(everything.topics) == set(TOPICS)
    write_bag(sequence, tmp_path / 'bag', content=everything)
    recording = Recording(sequence, rig_of_sequence(sequence), label_root=labels)
    store = get_typestore(Stores.ROS2_JAZZY)
    published = frame_messages(recording, '000001', TOPICS)
    with Reader(tmp_path / 'bag') as reader:
        recorded = {each.topic: (each.msgtype, raw) for each, _, raw in reader.messages()}
    assert set(recorded) == {topic.in_bags for topic in TOPICS.values()} | {'/tf_static'}
    for name, message in published.items():
        message.header.stamp = stamp_from_ns(recording.stamp_ns('000001'))
        kind, raw = recorded[TOPICS[name].in_bags]
        decoded = store.deserialize_cdr(serialize_message(message), kind)
        assert bytes(store.serialize_cdr(decoded, kind)) == bytes(raw), name
