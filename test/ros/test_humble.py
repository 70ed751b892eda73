"""What the wheels cannot show of Humble: rclpy 3.3 calls callbacks with the message alone.

Imitated after ros2/rclpy, branch humble: `rclpy/executors.py` executes a subscription with
`await_or_execute(sub.callback, msg)`, `Subscription` has no CallbackType (it came with pull
request 922, rclpy 3.4), and the callbacks of QoS events are in `rclpy/qos_event.py`; there is no
`rclpy/event_handler.py`, which Iron brought.
"""

import importlib
import sys
import types

import numpy as np
import pytest

pytest.importorskip('rclpy')
pytest.importorskip('cv2')

import rclpy.event_handler
from fixtures_faults import Patient
from fixtures_ros import EXTRINSICS, Camera
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image

from cigocc_ros.core.camera import CameraModel
from cigocc_ros.ros.input import subscriptions
from cigocc_ros.ros.input.camera_info import info_from_camera
from cigocc_ros.ros.players.kitti_messages import image_from_depth, image_from_rgb

IN_HUMBLE = ('deadline', 'incompatible_qos', 'liveliness', 'message_lost', 'use_default_callbacks')


class HumbleSubscription:
    """Subscription of rclpy 3.3, as far as it is looked at: without CallbackType."""


@pytest.fixture
def humble(monkeypatch):
    """Call every subscription with the message alone, and know of no CallbackType."""
    create = Node.create_subscription

    def message_only(node, kind, topic, callback, qos, **options):
        def called(message):
            return callback(message)

        return create(node, kind, topic, called, qos, **options)

    monkeypatch.setattr(Node, 'create_subscription', message_only)
    monkeypatch.setattr(subscriptions, 'Subscription', HumbleSubscription)


def test_the_imitation_fails_a_callback_that_wants_numbers(graph, humble):
    heard = []
    graph.observer.create_subscription(Image, 'image', lambda m, info: heard.append(info), 1)
    publisher = graph.publisher(Image, 'image')
    graph.until(publisher.get_subscription_count)
    with pytest.raises(TypeError, match='info'):
        graph.until(lambda: heard, every=lambda: publisher.publish(Image()))


def test_images_become_voxels_and_nothing_is_counted_as_lost(graph, humble):
    patient = Patient(graph)
    patient.until_cloud(patient.camera.publish)
    patient.settled()
    assert patient.counted.lost == 0 and patient.counted.dropped == {}


def test_a_best_effort_camera_is_heard(graph, humble):
    graph.start(**EXTRINSICS)
    camera = Camera(graph, qos=QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT))
    graph.until(lambda: graph.report().processed, every=camera.publish)


def test_depth_and_stereo_pairs_are_used(graph, humble):
    patient = Patient(graph)
    depths = graph.publisher(Image, 'depth')
    rights = graph.publisher(Image, 'right/image')
    infos = graph.publisher(CameraInfo, 'right/camera_info')
    right = info_from_camera(CameraModel.from_intrinsics(80, 80, 40, 24, 80, 48))
    right.p[3] = -40.0

    def with_right():
        patient.camera.publish()
        infos.publish(patient.camera.stamped(right))
        picture = image_from_rgb(np.zeros((48, 80, 3), np.uint8))
        rights.publish(patient.camera.stamped(picture))

    graph.until(lambda: patient.counted.prior_used, with_right)

    def with_depth():
        patient.camera.publish()
        depth = image_from_depth(np.full((48, 80), 9, np.float32))
        depths.publish(patient.camera.stamped(depth))

    graph.until(lambda: any((f.depth_m == 9).all() for f in measured(graph)), with_depth)


def measured(graph):
    return [frame for frame in graph.predictor.frames if frame.depth_m is not None]


def test_the_events_are_found_where_humble_has_them(monkeypatch):
    """No event_handler, and no event that came later than Humble."""

    class SubscriptionEventCallbacks(rclpy.event_handler.SubscriptionEventCallbacks):
        def __init__(self, **callbacks):
            assert set(callbacks) <= set(IN_HUMBLE), callbacks
            super().__init__(**callbacks)

    there = types.ModuleType('rclpy.qos_event')
    there.SubscriptionEventCallbacks = SubscriptionEventCallbacks
    monkeypatch.setitem(sys.modules, 'rclpy.event_handler', None)
    monkeypatch.setitem(sys.modules, 'rclpy.qos_event', there)
    try:
        module = importlib.reload(subscriptions)
        assert module.SubscriptionEventCallbacks is SubscriptionEventCallbacks
        module.SubscriptionEventCallbacks(incompatible_qos=print)
    finally:
        monkeypatch.undo()
        importlib.reload(subscriptions)


@pytest.mark.parametrize('numbers', [True, False])
def test_callbacks_take_what_this_rclpy_gives(monkeypatch, numbers):
    calls = []
    if not numbers:
        monkeypatch.setattr(subscriptions, 'Subscription', HumbleSubscription)
    call = subscriptions.as_rclpy_calls(lambda message, info: calls.append((message, info)))
    call('message', *([{'publication_sequence_number': 7}] if numbers else []))
    assert calls == [('message', {'publication_sequence_number': 7} if numbers else {})]
