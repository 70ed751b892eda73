"""The camera and the listener of a soak: sends numbered images, notes clouds and reports."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from cigocc_ros.core.errors import EngineError
from cigocc_ros.core.frames import CameraFrame
from cigocc_ros.ros.input.camera_info import info_from_camera
from cigocc_ros.ros.players.kitti_messages import image_from_rgb
from cigocc_ros.ros.stamps import stamp_from_ns

RELIABLE = QoSProfile(depth=10)
PICTURES = 4
INPUT_TOPICS = ('image', 'camera_info')
"""Of the node; both are remapped to `NODE/TOPIC`, NODE being its name."""
READY_WITHIN_S, ANSWER_WITHIN_S, SETTLES_WITHIN_S = 120.0, 60.0, 60.0


class Feeder:
    """One node is fed; stamps are of the present and never repeat."""

    def __init__(self, domain_id: int, name: str, frame: CameraFrame) -> None:
        """Join the domain of the node `name`; the image of `frame` is sent, shifted four ways."""
        self._context = Context()
        rclpy.init(context=self._context, domain_id=domain_id)
        self._name = name
        self._node = Node(f'{name}_camera', context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._images, self._infos = (
            self._node.create_publisher(kind, f'{name}/{topic}', RELIABLE)
            for kind, topic in zip((Image, CameraInfo), INPUT_TOPICS, strict=True)
        )
        # raw: what a subscriber does with a cloud is not looked at here
        self._node.create_subscription(
            PointCloud2, f'{name}/occupancy', self._on_cloud, RELIABLE, raw=True
        )
        self._node.create_subscription(DiagnosticArray, '/diagnostics', self._on_report, RELIABLE)
        shifts = range(0, 40 * PICTURES, 40)
        self._pictures = [image_from_rgb(np.roll(frame.image, n, axis=1)) for n in shifts]
        self._info = info_from_camera(frame.camera)
        self.sent = self.heard = 0
        self._due_s = 0.0
        self.latencies_ms: list[float] = []
        self.report: dict[str, str] = {}
        self.messages: dict[str, int] = {}

    def close(self) -> None:
        """Leave the domain."""
        self._executor.shutdown()
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)

    def await_node(self, alive: Callable[[], Any]) -> None:
        """Wait until the node subscribes; `alive` raises where it has died."""
        publishers = self._images, self._infos
        self._until(
            lambda: all(p.get_subscription_count() for p in publishers),
            READY_WITHIN_S,
            'a subscription of the node',
            alive,
        )

    def send(self) -> None:
        """Publish calibration and the next image."""
        image = self._pictures[self.sent % PICTURES]
        image.header.stamp = self._info.header.stamp = stamp_from_ns(time.time_ns())
        image.header.frame_id = self._info.header.frame_id = 'camera'
        self._infos.publish(self._info)
        self._images.publish(image)
        self.sent += 1

    def pace_s(self, frames: int) -> float:
        """Return the shortest time to an answer when each image waits for the one before."""
        times_s = []
        for _ in range(frames):
            started_s, heard = time.perf_counter(), self.heard
            self.send()
            self._until(partial(self._has_heard_more_than, heard), ANSWER_WITHIN_S, 'voxels')
            times_s.append(time.perf_counter() - started_s)
        return float(min(times_s))

    def _has_heard_more_than(self, count: int) -> bool:
        return self.heard > count

    def feed(self, rate_hz: float, seconds: float) -> None:
        """Send at a rate for a while; where this machine is late, the rate is lower."""
        end_s = time.monotonic() + seconds
        while (now_s := time.monotonic()) < end_s:
            if now_s >= self._due_s:
                self.send()
                self._due_s = max(self._due_s, now_s - 1 / rate_hz) + 1 / rate_hz
            wait_s = min(self._due_s, end_s) - time.monotonic()
            self._executor.spin_once(timeout_sec=max(0.0, wait_s))

    def settle(self, alive: Callable[[], Any]) -> None:
        """Wait for a report that knows the fate of every image; at the limit leave it as it is."""
        deadline = time.monotonic() + SETTLES_WITHIN_S

        def settled() -> bool:
            counted = self.count('frames in') + self.count('lost before the node')
            return counted == self.sent and self.count('in flight') == 0

        self._until(
            lambda: settled() or time.monotonic() > deadline, 2 * SETTLES_WITHIN_S, '', alive
        )

    def count(self, name: str) -> int:
        """Return a counter of the latest report; 0 before the first."""
        return int(self.report.get(name, '0'))

    def _until(
        self,
        done: Callable[[], bool],
        within_s: float,
        what: str,
        alive: Callable[[], Any] = lambda: None,
    ) -> None:
        deadline = time.monotonic() + within_s
        while not done():
            alive()
            if time.monotonic() > deadline:
                raise EngineError(f'waited {within_s:.0f} s for {what}')
            self._executor.spin_once(timeout_sec=0.05)

    def _on_cloud(self, content: bytes) -> None:
        now_ns = time.time_ns()
        # CDR: four bytes of encapsulation, then the stamp, little endian where this machine is
        sec, nanosec = struct.unpack_from('=iI', content, 4)
        self.heard += 1
        self.latencies_ms.append(1e-6 * (now_ns - (sec * 1_000_000_000 + nanosec)))

    def _on_report(self, array: DiagnosticArray) -> None:
        for status in array.status:
            listed = {entry.key: entry.value for entry in status.values}
            if status.name == f'/{self._name}: occupancy' and listed:
                self.report = listed
                level = f'{ord(status.level)} {status.message}'
                self.messages[level] = self.messages.get(level, 0) + 1
