"""A camera and a listener in one: publishes images and notes when their voxels arrive."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image, PointCloud2
from visualization_msgs.msg import MarkerArray

from cigocc_ros.core.errors import EngineError
from cigocc_ros.core.frames import CameraFrame
from cigocc_ros.ros.input.camera_info import info_from_camera
from cigocc_ros.ros.players.kitti_messages import image_from_rgb
from cigocc_ros.ros.stamps import stamp_from_ns, stamp_to_ns

ANSWER_WITHIN_S, READY_WITHIN_S, RETRY_S = 30.0, 60.0, 2.0
RELIABLE = QoSProfile(depth=10)
FRAME_ID = 'camera'


@dataclass
class Heard:
    """What was sent and what came back. Times of `time.perf_counter`, seconds, by stamp."""

    sent_s: dict[int, float] = field(default_factory=dict)
    arrived_s: dict[int, float] = field(default_factory=dict)
    points: int = 0

    @property
    def latencies_ms(self) -> list[float]:
        """From before the image was published until its cloud was there, in order of arrival."""
        arrived = list(self.arrived_s.items())
        return [1e3 * (when - self.sent_s[stamp]) for stamp, when in arrived]


class Probe:
    """Feeds one node at a time; its namespace is the node's name."""

    def __init__(self, domain_id: int, frame: CameraFrame) -> None:
        """Join the domain and spin in a thread; the image of `frame` is what will be sent."""
        self._context = Context()
        rclpy.init(context=self._context, domain_id=domain_id)
        self._node = Node('probe', context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()
        self._image = image_from_rgb(frame.image)
        self._image.header.frame_id = FRAME_ID
        self._info = info_from_camera(frame.camera)
        self._info.header.frame_id = FRAME_ID
        self._publishers: dict[str, tuple[Any, Any]] = {}
        self._answered = threading.Event()
        self._stamp_ns = 1_000_000_000

    def close(self) -> None:
        """Leave the domain."""
        self._executor.shutdown()
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)
        self._thread.join(5.0)

    def await_node(self, name: str) -> None:
        """Wait until the node has a subscription to the images; raise EngineError."""
        if name not in self._publishers:
            self._publishers[name] = (
                self._node.create_publisher(Image, f'/{name}/image', RELIABLE),
                self._node.create_publisher(type(self._info), f'/{name}/camera_info', RELIABLE),
            )
        deadline = time.monotonic() + READY_WITHIN_S
        while any(not p.get_subscription_count() for p in self._publishers[name]):
            if time.monotonic() > deadline:
                raise EngineError(f'{name} did not subscribe within {READY_WITHIN_S:g} s')
            time.sleep(0.05)

    def listen(self, name: str, markers: bool) -> tuple[Heard, list[Any]]:
        """Subscribe to what a node publishes; hand the subscriptions to `forget` afterwards."""
        heard = Heard()

        def on_cloud(message: PointCloud2) -> None:
            heard.arrived_s[stamp_to_ns(message.header.stamp)] = time.perf_counter()
            heard.points = message.width
            self._answered.set()

        topics: list[tuple[Any, str, Callable[[Any], None]]] = [
            (PointCloud2, 'occupancy', on_cloud)
        ]
        if markers:
            topics.append((MarkerArray, 'markers', lambda _: None))
        made = [
            self._node.create_subscription(
                kind, f'/{name}/{topic}', act, RELIABLE, raw=kind is MarkerArray
            )
            for kind, topic, act in topics
        ]
        deadline = time.monotonic() + READY_WITHIN_S
        while any(not self._node.count_publishers(one.topic_name) for one in made):
            if time.monotonic() > deadline:
                raise EngineError(f'{name} does not publish')
            time.sleep(0.05)
        return heard, made

    def forget(self, made: list[Any]) -> None:
        """End subscriptions."""
        for subscription in made:
            self._node.destroy_subscription(subscription)

    def send(self, name: str, heard: Heard) -> None:
        """Publish calibration and image with a new stamp."""
        images, infos = self._publishers[name]
        self._stamp_ns += 1_000_000
        self._image.header.stamp = self._info.header.stamp = stamp_from_ns(self._stamp_ns)
        infos.publish(self._info)
        heard.sent_s[self._stamp_ns] = time.perf_counter()
        images.publish(self._image)

    def wake(self, name: str, heard: Heard) -> None:
        """Send images until the last is answered: the node knows who listens then, and is warm."""
        deadline = time.monotonic() + READY_WITHIN_S
        while not heard.sent_s or max(heard.sent_s) not in heard.arrived_s:
            if time.monotonic() > deadline:
                raise EngineError(f'{name} gave no voxels within {READY_WITHIN_S:g} s')
            self._answered.clear()
            self.send(name, heard)
            self._answered.wait(RETRY_S)
        heard.sent_s.clear()
        heard.arrived_s.clear()

    def send_and_wait(self, name: str, heard: Heard) -> None:
        """Publish one image and wait for its voxels; raise EngineError where none come."""
        self._answered.clear()
        self.send(name, heard)
        if not self._answered.wait(ANSWER_WITHIN_S):
            raise EngineError(f'{name} gave no voxels within {ANSWER_WITHIN_S:g} s')
