"""A KITTI sequence in the camera convention of ROS."""

import numpy as np
import pytest
import yaml

pytest.importorskip('rclpy')

from fixtures_sequence import P2, P3, TR, build_sequence

from cigocc_ros.core.camera import stereo_focal_baseline
from cigocc_ros.core.projection import pixel_from_velo
from cigocc_ros.data.kitti_sequence import KittiSequence
from cigocc_ros.ros.camera_info import geometry_from_info
from cigocc_ros.ros.clouds import OCCUPANCY_DTYPE
from cigocc_ros.ros.conversions import depth_from_image, rgb_from_image
from cigocc_ros.ros.extrinsics import ParameterExtrinsics, rigid_transform
from cigocc_ros.ros.kitti_messages import (
    FrameMessages,
    left_in_velo,
    played_rig,
    static_transform,
    write_extrinsics,
)

ALL = (
    'camera_info',
    'image',
    'right/camera_info',
    'right/image',
    'depth',
    'velodyne',
    'ground_truth',
)


@pytest.fixture(scope='module')
def sequence(tmp_path_factory):
    return KittiSequence(build_sequence(tmp_path_factory.mktemp('sequence') / '07'))


def test_the_left_camera_is_the_origin_of_the_pair(sequence):
    rig = played_rig(sequence)
    np.testing.assert_allclose(rig.left.projection[:, 3], 0, atol=1e-12)
    np.testing.assert_allclose(rig.right.projection[:, 3], P3[:, 3] - P2[:, 3], atol=1e-12)
    assert stereo_focal_baseline(rig.left, rig.right) == pytest.approx(80.0)


def test_both_cameras_still_see_the_lidar_where_kitti_says(sequence):
    rig = played_rig(sequence)
    velo_to_cam0 = np.vstack([TR, [0, 0, 0, 1]])
    for camera, projection in ((rig.left, P2), (rig.right, P3)):
        found = pixel_from_velo(camera, rig.cam_from_velo)
        np.testing.assert_allclose(found, projection @ velo_to_cam0, atol=1e-9)


def test_the_written_parameters_give_the_same_transform(sequence, tmp_path):
    rig = played_rig(sequence)
    write_extrinsics(tmp_path / 'extrinsics.yaml', rig, 'velo_link')
    content = yaml.safe_load((tmp_path / 'extrinsics.yaml').read_text())
    parameters = content['/**']['ros__parameters']
    given = parameters['extrinsics']
    found = ParameterExtrinsics(given['translation'], given['rotation']).cam_from_velo('any')
    np.testing.assert_allclose(found, rig.cam_from_velo, atol=1e-9)
    assert parameters['output_frame'] == 'velo_link'


def test_the_static_transform_is_the_pose_of_the_camera(sequence):
    rig = played_rig(sequence)
    stamped = static_transform(rig, 'velo_link', 'camera', 5)
    assert (stamped.header.frame_id, stamped.child_frame_id) == ('velo_link', 'camera')
    t, q = stamped.transform.translation, stamped.transform.rotation
    pose = rigid_transform([t.x, t.y, t.z], [q.x, q.y, q.z, q.w])
    np.testing.assert_allclose(pose @ rig.cam_from_velo, np.eye(4), atol=1e-9)
    np.testing.assert_allclose(left_in_velo(rig)[0], pose[:3, 3])


def test_messages_of_a_frame(sequence):
    rig = played_rig(sequence)
    messages = FrameMessages(sequence, rig, 'cam', 'velo')('000001', ALL)
    assert set(messages) == set(ALL)
    np.testing.assert_array_equal(rgb_from_image(messages['image']), sequence.image(1))
    np.testing.assert_array_equal(
        rgb_from_image(messages['right/image']), sequence.image(1, 'right')
    )
    np.testing.assert_array_equal(
        depth_from_image(messages['depth']).depth_m, sequence.depth('000001')
    )
    size = (messages['image'].width, messages['image'].height)
    for topic, camera in (('camera_info', rig.left), ('right/camera_info', rig.right)):
        assert geometry_from_info(messages[topic], size, raw=False).camera == camera
    frames = {topic: message.header.frame_id for topic, message in messages.items()}
    assert {t for t, frame in frames.items() if frame == 'velo'} == {'velodyne', 'ground_truth'}
    assert messages['velodyne'].width == 20


def test_the_ground_truth_leaves_out_what_is_unknown(sequence):
    rig = played_rig(sequence)
    made = FrameMessages(sequence, rig, 'cam', 'velo')('000000', ['ground_truth'])
    points = np.frombuffer(made['ground_truth'].data, OCCUPANCY_DTYPE)
    assert points['label'].tolist() == [9, 1]
    expected = sequence.grid.center_of(np.array([[10, 20, 3], [11, 20, 3]]))
    np.testing.assert_allclose(np.stack([points[a] for a in 'xyz'], -1), expected, rtol=1e-6)


def test_what_a_sequence_lacks_is_left_out(sequence, tmp_path):
    import shutil

    copy = shutil.copytree(sequence.path, tmp_path / '08')
    for folder in ('image_3', 'depth_2', 'velodyne', 'voxels'):
        shutil.rmtree(copy / folder)
    bare = KittiSequence(copy)
    messages = FrameMessages(bare, played_rig(bare), 'cam', 'velo')('000000', ALL)
    assert set(messages) == {'camera_info', 'image'}
