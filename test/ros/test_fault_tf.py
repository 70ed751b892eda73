"""tf that is late, absent or changing.

tf2_ros is not on PyPI: where it is missing, a small buffer stands in for it that hears the same
transforms over DDS, as TransformStamped of their own topic.
"""

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest

pytest.importorskip('rclpy')

from fixtures_faults import ERROR, OK, WARN, Patient
from fixtures_ros import FORWARD_XYZW
from geometry_msgs.msg import TransformStamped
from rclpy.qos import DurabilityPolicy, QoSProfile

from cigocc_ros.ros import diagnostics
from cigocc_ros.ros.input import extrinsics
from cigocc_ros.ros.stamps import stamp_from_ns

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
TOPIC = '/one_transform_static'
FROM_TF = {'extrinsics.translation': None, 'extrinsics.rotation': None}


class StandInBuffer:
    """What lookup_transform of tf2_ros does for one pair of frames."""

    def __init__(self):
        self.heard = None

    def lookup_transform(self, target, source, moment):
        if self.heard is None or self.heard.header.frame_id != target:
            raise LookupError(f'"{target}" passed to lookupTransform does not exist')
        return self.heard


class Tf:
    """Publish the pose of the grid in the camera, by whatever tf there is."""

    def __init__(self, graph, monkeypatch):
        if 'tf2_ros' not in sys.modules and not extrinsics.importlib.util.find_spec('tf2_ros'):
            self._stand_in(monkeypatch)
            self._publish = graph.publisher(TransformStamped, TOPIC, LATCHED).publish
        else:
            import tf2_ros

            self._publish = tf2_ros.StaticTransformBroadcaster(graph.observer).sendTransform

    def _stand_in(self, monkeypatch):
        def listener(buffer, node):
            return node.create_subscription(
                TransformStamped, TOPIC, lambda heard: setattr(buffer, 'heard', heard), LATCHED
            )

        module = ModuleType('tf2_ros')
        module.__spec__ = ModuleSpec('tf2_ros', None)
        module.Buffer, module.TransformListener = StandInBuffer, listener
        monkeypatch.setitem(sys.modules, 'tf2_ros', module)

    def publish(self, shift_m=0.0):
        message = TransformStamped(child_frame_id='velo_link')
        message.header.frame_id = 'camera_optical'
        message.header.stamp = stamp_from_ns(1)
        message.transform.translation.z = -0.25 + shift_m
        # the grid seen by the camera: the inverse of the rotation that looks forward
        x, y, z, w = FORWARD_XYZW
        rotation = message.transform.rotation
        rotation.x, rotation.y, rotation.z, rotation.w = -x, -y, -z, w
        self._publish(message)


@pytest.fixture
def tf(graph, monkeypatch):
    monkeypatch.setattr(diagnostics, 'PERIOD_S', 0.2)
    monkeypatch.setattr(extrinsics, 'RETRY_S', 0.1)
    monkeypatch.setattr(extrinsics, 'FORGET_S', 1.0)
    return Tf(graph, monkeypatch)


def test_tf_is_absent_and_then_late(graph, tf):
    patient = Patient(graph, **FROM_TF)
    said = patient.until_said('no output, extrinsics are missing', ERROR, patient.camera.publish)
    assert "no transform velo_link <- 'camera_optical'" in said.message
    graph.until(lambda: patient.counted.dropped['no_extrinsics'] > 5, patient.camera.publish)
    assert not patient.clouds and not graph.predictor.frames  # never identity
    tf.publish()
    patient.until_well()
    pose = graph.predictor.frames[-1].cam_from_velo
    assert pose[2, 3] == pytest.approx(-0.25) and pose[2, 0] == pytest.approx(1)
    assert patient.values['extrinsics'] == 'tf: ok'


def test_tf_changes_while_the_node_runs(graph, tf):
    """The pose of the start stays in use, and diagnostics say so until it is restarted."""
    tf.publish()
    patient = Patient(graph, **FROM_TF)
    patient.until_well()
    tf.publish(shift_m=0.4)
    said = patient.until_said('moved in tf by 0.40 m', WARN, patient.camera.publish)
    assert 'restart the node' in said.message
    patient.until_cloud(patient.camera.publish)
    assert graph.predictor.frames[-1].cam_from_velo[2, 3] == pytest.approx(-0.25)
    tf.publish()
    patient.until_said('running', OK, patient.camera.publish)
    patient.until_well()


def test_images_of_a_frame_that_tf_does_not_know(graph, tf):
    tf.publish()
    patient = Patient(graph, **FROM_TF)
    patient.until_well()
    stranger = patient.camera.image()
    stranger.header.frame_id = 'somewhere'
    patient.until_said(
        "no transform velo_link <- 'somewhere'",
        ERROR,
        lambda: patient.camera.publish(stranger),
    )
    # the camera that is known goes on meanwhile, and one odd message is forgotten
    patient.until_well()
    graph.until(lambda: not graph.node._extrinsics.problem, patient.camera.publish)
