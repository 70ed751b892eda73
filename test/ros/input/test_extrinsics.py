"""Camera poses: from parameters, from tf, or missing."""

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rclpy')

from fixtures_ros import FORWARD_XYZW

from cigocc_ros.core.errors import CalibrationError, ConfigError
from cigocc_ros.core.rotation import quaternion_xyzw, rigid_transform
from cigocc_ros.ros.dropped import DroppedFrame
from cigocc_ros.ros.input import extrinsics
from cigocc_ros.ros.input.extrinsics import (
    NoExtrinsics,
    ParameterExtrinsics,
    TfExtrinsics,
    create_extrinsics,
)
from cigocc_ros.ros.occ_parameters import OccParameters


def stamped(translation, rotation):
    t = SimpleNamespace(**dict(zip('xyz', translation, strict=True)))
    r = SimpleNamespace(**dict(zip('xyzw', rotation, strict=True)))
    return SimpleNamespace(transform=SimpleNamespace(translation=t, rotation=r))


def test_parameters_are_the_pose_of_the_camera_in_the_grid_frame():
    """A camera 1 m ahead of the lidar looks forward: a point 10 m ahead lies 9 m deep."""
    cam_from_velo = ParameterExtrinsics([1.0, 0, 0], FORWARD_XYZW).cam_from_velo('any')
    np.testing.assert_allclose(cam_from_velo @ [10, 0, 0, 1], [0, 0, 9, 1], atol=1e-12)
    # 2 m to the left and 3 m up is at negative x and negative y of the optical frame
    np.testing.assert_allclose(cam_from_velo @ [1, 2, 3, 1], [-2, -3, 0, 1], atol=1e-12)


def test_quaternions_round_trip():
    random = np.random.default_rng(0)
    for quaternion in [*random.normal(size=(50, 4)), [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]:
        unit = np.asarray(quaternion) / np.linalg.norm(quaternion)
        found = np.array(quaternion_xyzw(rigid_transform([0, 0, 0], unit)[:3, :3]))
        np.testing.assert_allclose(found, unit * np.sign(found @ unit), atol=1e-9)


@pytest.mark.parametrize('rotation', [[0, 0, 0, 0], [1, 1, 0, 0], [np.nan, 0, 0, 1]])
def test_a_rotation_must_be_a_unit_quaternion(rotation):
    with pytest.raises(CalibrationError, match='unit quaternion'):
        rigid_transform([0, 0, 0], rotation)


def test_tf_is_asked_once_and_cached():
    asked = []

    def lookup(target, source):
        asked.append((target, source))
        return stamped([0, 0, 1], [0, 0, 0, 1])

    tf = TfExtrinsics('velo_link', lookup)
    for _ in range(3):
        assert tf.cam_from_velo('cam')[2, 3] == 1
    assert asked == [('cam', 'velo_link')]
    assert tf.problem == ''


def test_missing_tf_drops_frames_until_the_timer_finds_it():
    answers = [LookupError('not yet'), LookupError('still not'), stamped([1, 2, 3], [0, 0, 0, 1])]

    def lookup(*_):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    tf = TfExtrinsics('velo_link', lookup)
    for _ in range(5):  # images ask tf only once between two ticks of the timer
        with pytest.raises(DroppedFrame, match=r"velo_link <- 'cam': not yet") as caught:
            tf.cam_from_velo('cam')
    assert caught.value.reason == 'no_extrinsics'
    tf.retry()
    assert 'still not' in tf.problem
    tf.retry()
    assert tf.problem == '' and tf.cam_from_velo('cam')[:3, 3].tolist() == [1, 2, 3]
    assert not answers


def test_an_image_without_a_frame_is_dropped():
    tf = TfExtrinsics('velo_link', lambda *_: pytest.fail('tf was asked for an empty frame'))
    with pytest.raises(DroppedFrame, match='no frame_id'):
        tf.cam_from_velo('')


def test_sources(graph, monkeypatch):
    given = OccParameters(extrinsics_rotation=tuple(FORWARD_XYZW))
    assert create_extrinsics(graph.observer, given).source == 'parameters'
    with pytest.raises(ConfigError, match=r'extrinsics.rotation is not set'):
        create_extrinsics(graph.observer, OccParameters(extrinsics_source='parameters'))
    monkeypatch.setattr(extrinsics.importlib.util, 'find_spec', lambda _: None)
    missing = create_extrinsics(graph.observer, OccParameters())
    assert isinstance(missing, NoExtrinsics) and 'tf2_ros' in missing.problem
    with pytest.raises(DroppedFrame):
        missing.cam_from_velo('cam')


def test_tf2_is_asked_for_the_latest_transform_without_waiting(graph, monkeypatch):
    asked = []

    class Buffer:
        def lookup_transform(self, target, source, moment):
            asked.append((target, source, moment.nanoseconds))
            if len(asked) == 1:
                raise LookupError('frame does not exist')
            return stamped([0, 0, 2], [0, 0, 0, 1])

    stand_in = ModuleType('tf2_ros')
    stand_in.__spec__ = ModuleSpec('tf2_ros', None)
    stand_in.Buffer, stand_in.TransformListener = Buffer, lambda buffer, node: (buffer, node)
    monkeypatch.setitem(sys.modules, 'tf2_ros', stand_in)
    tf = create_extrinsics(graph.observer, OccParameters())
    assert tf.source == 'tf'
    with pytest.raises(DroppedFrame):
        tf.cam_from_velo('cam')
    graph.until(lambda: not tf.problem)  # the timer of the node asks again
    assert tf.cam_from_velo('cam')[2, 3] == 2
    assert asked == [('cam', 'velo_link', 0)] * 2


def test_tf2_buffer_and_static_broadcaster(graph):
    tf2_ros = pytest.importorskip('tf2_ros')
    from geometry_msgs.msg import TransformStamped

    message = TransformStamped(child_frame_id='cam')
    message.header.frame_id = 'velo_link'
    message.transform.translation.x, message.transform.rotation.w = 2.0, 1.0
    tf2_ros.StaticTransformBroadcaster(graph.observer).sendTransform(message)
    tf = create_extrinsics(graph.observer, OccParameters())

    def found() -> bool:
        try:
            return tf.cam_from_velo('cam')[0, 3] == -2.0
        except DroppedFrame:
            return False

    graph.until(found)
