"""The node `kitti_player`: a KITTI or synthetic sequence folder as camera, lidar and clock."""

from __future__ import annotations

import logging
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from cigocc_ros.core.errors import ConfigError
from cigocc_ros.data.kitti_sequence import KittiSequence
from cigocc_ros.data.recording import RIGHT_TOPICS, TOPICS, Kind, Recording
from cigocc_ros.data.rig import camera_pose, rig_of_sequence
from cigocc_ros.ros.log_forwarding import forward_logging
from cigocc_ros.ros.parameters import declare, usage
from cigocc_ros.ros.players.kitti_messages import (
    frame_messages,
    static_transform,
    write_extrinsics,
)
from cigocc_ros.ros.players.pacing import Pace, Pacer, Playback, clock_teller, spin_until_done
from cigocc_ros.ros.players.player_parameters import PlayerParameters
from cigocc_ros.ros.process import run_node, wants_help
from cigocc_ros.ros.stamps import stamp_from_ns

logger = logging.getLogger(__name__)
NODE_NAME = 'kitti_player'
USAGE = """\
Play a KITTI sequence on topics.

    ros2 run cigocc_ros kitti_player --ros-args -p sequence:=FOLDER [-p NAME:=VALUE ...]

Parameters, with their defaults:"""
MESSAGES: dict[Kind, type] = {
    'image': Image,
    'camera_info': CameraInfo,
    'depth': Image,
    'labels': Image,
    'cloud': PointCloud2,
}
# Loaded only for those who listen: large, and of no use to the node under test.
ON_REQUEST = ('velodyne', 'ground_truth')
AWAITED = ('image', 'camera_info')
"""Those who hear both are waited for."""


def open_sequence(folder: str) -> KittiSequence:
    """Open a sequence folder; raise ConfigError without one, DataFileError for a bad one."""
    if not folder:
        raise ConfigError(
            'parameter sequence is not set: give a folder, e.g. dataset/sequences/00'
        )
    return KittiSequence(Path(folder))


class KittiPlayer(Node):  # type: ignore[misc]  # rclpy is not read by mypy
    """Publish frame after frame on relative topics, paced by the recorded stamps."""

    exit_code = 0

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
            Path(settings.semantic_prior) if settings.semantic_prior else None,
        )
        end = None if settings.end < 0 else settings.end
        self._frames = list(sequence.frame_ids)[settings.start : end]
        stamps = [self._recording.stamp_ns(frame) for frame in self._frames]
        self._playback = Playback(stamps, settings.loop)
        self._pacer: Pacer | None = None
        if settings.write_extrinsics:
            pose = camera_pose(rig.left, settings.lidar_frame)
            write_extrinsics(Path(settings.write_extrinsics), pose)
            logger.info('camera pose written to %s', settings.write_extrinsics)
        else:
            self._advertise()

    def _advertise(self) -> None:
        settings = self.parameters
        off = set() if settings.right else set(RIGHT_TOPICS)
        off |= set() if settings.depth else {'depth'}
        off |= set() if settings.semantic_prior else {'semantic_prior'}
        self._topics = {
            name: self.create_publisher(MESSAGES[topic.kind], name, QoSProfile(depth=5))
            for name, topic in TOPICS.items()
            if name not in off
        }
        self._tf = self._publish_tf()
        self._next: Future[dict[str, Any]] = self._loader.submit(self._load)
        awaited = [self._topics[name] for name in AWAITED]
        pace = Pace(
            self._playback.first_ns,
            settings.rate,
            settings.wait_for_subscribers,
            settings.linger_s,
            heard=lambda: min(topic.get_subscription_count() for topic in awaited),
            acked=awaited,
        )
        self._pacer = Pacer(self, pace, self._play, clock_teller(self) if settings.clock else None)

    @property
    def done(self) -> bool:
        """Whether there is nothing left to do."""
        return self._pacer is None or self._pacer.done

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

    def _play(self, time_ns: int) -> bool:
        """Publish the frame that is due; return whether more is to come."""
        if self._playback.due(time_ns):
            self._publish_frame()
        if self._playback.finished:
            logger.info('%d frames played', self._playback.played)
        return not self._playback.finished

    def _publish_frame(self) -> None:
        messages = self._next.result()
        recorded = stamp_from_ns(self._playback.stamp_ns)
        stamp = recorded if self.parameters.clock else self.get_clock().now().to_msg()
        for name, message in sorted(messages.items(), key=_calibration_first):
            message.header.stamp = stamp
            self._topics[name].publish(message)
        self._playback.played += 1
        if not self._playback.finished:
            self._next = self._loader.submit(self._load)

    def destroy_node(self) -> None:
        """End the loader, then the node."""
        self._loader.shutdown(cancel_futures=True)
        self._stop_forwarding()
        super().destroy_node()


def _calibration_first(named: tuple[str, Any]) -> bool:
    """Sort each camera_info before the images, which need it."""
    return not named[0].endswith('camera_info')


def main(args: list[str] | None = None) -> int:
    """Play until the end, SIGINT or SIGTERM; return 1 where the sequence cannot be played."""
    if wants_help(args):
        sys.stdout.write(usage(PlayerParameters, USAGE) + '\n')
        return 0
    return run_node(NODE_NAME, args, KittiPlayer, spin_until_done)
