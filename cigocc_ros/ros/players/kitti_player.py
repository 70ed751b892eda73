"""The node `kitti_player`: a KITTI or synthetic sequence folder as camera, lidar and clock."""

from __future__ import annotations

import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.utilities import ok
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from cigocc_ros.core.errors import ConfigError
from cigocc_ros.data.kitti_sequence import KittiSequence
from cigocc_ros.data.recording import RIGHT_TOPICS, TOPICS, Kind, Recording
from cigocc_ros.data.rig import camera_pose, rig_of_sequence
from cigocc_ros.ros.log_forwarding import Throttle, forward_logging
from cigocc_ros.ros.parameters import declare
from cigocc_ros.ros.players.kitti_messages import (
    frame_messages,
    static_transform,
    write_extrinsics,
)
from cigocc_ros.ros.players.pacing import Playback
from cigocc_ros.ros.players.player_parameters import PlayerParameters
from cigocc_ros.ros.process import run_node
from cigocc_ros.ros.stamps import stamp_from_ns

logger = logging.getLogger(__name__)
NODE_NAME = 'kitti_player'
MESSAGES: dict[Kind, type] = {
    'image': Image,
    'camera_info': CameraInfo,
    'depth': Image,
    'cloud': PointCloud2,
}
# Loaded only for those who listen: large, and of no use to the node under test.
ON_REQUEST = ('velodyne', 'ground_truth')
TICK_S = 0.01
SETTLE_S = 1.0  # a subscriber learns of us after we learn of it, late on a busy machine
ACK_WAIT = Duration(seconds=2)


def open_sequence(folder: str) -> KittiSequence:
    """Open a sequence folder; raise ConfigError without one, DataFileError for a bad one."""
    if not folder:
        raise ConfigError(
            'parameter sequence is not set: give a folder, e.g. dataset/sequences/00'
        )
    return KittiSequence(Path(folder))


class KittiPlayer(Node):  # type: ignore[misc]  # rclpy is not read by mypy
    """Publish frame after frame on relative topics, paced by the recorded stamps."""

    def __init__(self, **node: Any) -> None:
        """Open the sequence and wait for subscribers; raise CigoccError where it cannot work."""
        super().__init__(NODE_NAME, **node)
        self._stop_forwarding = forward_logging(self)
        self._loader = ThreadPoolExecutor(1)
        try:
            self._open()
        except BaseException:
            self.destroy_node()
            raise

    def _open(self) -> None:
        self.parameters = declare(self, PlayerParameters)
        settings = self.parameters
        sequence = open_sequence(settings.sequence)
        frames = settings.camera_frame, settings.right_camera_frame
        rig = rig_of_sequence(sequence, *frames)
        self._recording = Recording(
            sequence,
            rig if settings.right else rig.without_right(),
            settings.lidar_frame,
            settings.ground_truth_frame,
        )
        end = None if settings.end < 0 else settings.end
        self._frames = list(sequence.frame_ids)[settings.start : end]
        stamps = [self._recording.stamp_ns(frame) for frame in self._frames]
        self._playback = Playback(stamps, settings.rate, settings.loop)
        self._throttle = Throttle()
        self._started_s: float | None = None
        self._matched_s: float | None = None
        self._finished_s: float | None = None
        self.done = bool(settings.write_extrinsics)
        if self.done:
            pose = camera_pose(rig.left, settings.lidar_frame)
            write_extrinsics(Path(settings.write_extrinsics), pose)
            logger.info('camera pose written to %s', settings.write_extrinsics)
        else:
            self._advertise()

    def _advertise(self) -> None:
        settings = self.parameters
        off = set() if settings.right else set(RIGHT_TOPICS)
        off |= set() if settings.depth else {'depth'}
        self._topics = {
            name: self.create_publisher(MESSAGES[topic.kind], name, QoSProfile(depth=5))
            for name, topic in TOPICS.items()
            if name not in off
        }
        self._clock_topic = self._clock_publisher() if settings.clock else None
        self._tf = self._publish_tf()
        self._next: Future[dict[str, Any]] = self._loader.submit(self._load)
        self.create_timer(TICK_S, self._tick, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _clock_publisher(self) -> Any:
        from rosgraph_msgs.msg import Clock as ClockMessage

        self._clock_message = ClockMessage
        return self.create_publisher(ClockMessage, '/clock', QoSProfile(depth=1))

    def _publish_tf(self) -> Any:
        """Publish /tf_static where tf2_msgs is installed (it is not on PyPI)."""
        try:
            from tf2_msgs.msg import TFMessage  # type: ignore[import-not-found,unused-ignore]
        except ImportError:
            logger.warning('no tf2_msgs, so no /tf_static: use write_extrinsics for the node occ')
            return None
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        publisher = self.create_publisher(TFMessage, '/tf_static', latched)
        poses = self._recording.rig.static_poses(self.parameters.lidar_frame)
        stamp_ns = self._playback.first_ns
        transforms = [static_transform(pose, stamp_ns) for pose in poses]
        publisher.publish(TFMessage(transforms=transforms))
        return publisher

    def _load(self) -> dict[str, Any]:
        """Read the next frame, in the loader's thread."""
        wanted = [
            name
            for name, topic in self._topics.items()
            if name not in ON_REQUEST or topic.get_subscription_count()
        ]
        return frame_messages(self._recording, self._frames[self._playback.index], wanted)

    def _tick(self) -> None:
        if self._started_s is None and not self._may_start():
            self._publish_clock(self._playback.first_ns)
            return
        now_s = time.monotonic()
        self._started_s = self._started_s or now_s
        time_ns = self._playback.time_ns(now_s - self._started_s)
        self._publish_clock(time_ns)
        if self._playback.due(time_ns):
            self._publish_frame()
        if self._playback.finished:
            self._finish(now_s)

    def _may_start(self) -> bool:
        """Say whether enough subscribers have been there for a moment."""
        counts = [self._topics[name].get_subscription_count() for name in ('image', 'camera_info')]
        if min(counts) < self.parameters.wait_for_subscribers:
            self._matched_s = None
            if self._throttle('waiting') is not None:
                logger.info('waiting for subscribers of %s', self._topics['image'].topic_name)
            return False
        self._matched_s = self._matched_s or time.monotonic()
        return time.monotonic() - self._matched_s >= SETTLE_S

    def _publish_clock(self, time_ns: int) -> None:
        if self._clock_topic is not None:
            self._clock_topic.publish(self._clock_message(clock=stamp_from_ns(time_ns)))

    def _publish_frame(self) -> None:
        messages = self._next.result()
        recorded = stamp_from_ns(self._playback.stamp_ns)
        stamp = recorded if self.parameters.clock else self.get_clock().now().to_msg()
        for name, message in messages.items():
            message.header.stamp = stamp
            self._topics[name].publish(message)
        self._playback.played += 1
        if not self._playback.finished:
            self._next = self._loader.submit(self._load)

    def _finish(self, now_s: float) -> None:
        if self._finished_s is None:
            self._finished_s = now_s
            for name in ('image', 'camera_info'):
                self._topics[name].wait_for_all_acked(ACK_WAIT)
            logger.info('%d frames played', self._playback.played)
        self.done = now_s - self._finished_s >= self.parameters.linger_s

    def destroy_node(self) -> None:
        """End the loader, then the node."""
        self._loader.shutdown(cancel_futures=True)
        self._stop_forwarding()
        super().destroy_node()


def _spin(player: KittiPlayer, executor: SingleThreadedExecutor) -> int:
    while ok() and not player.done:
        executor.spin_once()
    return 0


def main(args: list[str] | None = None) -> int:
    """Play until the end, SIGINT or SIGTERM; return 1 where the sequence cannot be played."""
    return run_node(NODE_NAME, args, KittiPlayer, _spin)
