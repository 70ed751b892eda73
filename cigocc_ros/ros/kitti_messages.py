"""Frames of a KITTI sequence as ROS messages, in the camera convention of ROS."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from geometry_msgs.msg import Quaternion, Transform, TransformStamped, Vector3
from numpy.typing import NDArray

from cigocc_ros.core.camera import CameraModel
from cigocc_ros.core.frames import Occupancy
from cigocc_ros.core.labels import EMPTY, IGNORE
from cigocc_ros.data.kitti_sequence import KittiSequence
from cigocc_ros.ros.camera_info import info_from_camera
from cigocc_ros.ros.clouds import cloud_from_lidar, cloud_from_occupancy, header
from cigocc_ros.ros.conversions import image_from_depth, image_from_rgb
from cigocc_ros.ros.extrinsics import quaternion_xyzw

CERTAIN = 255


@dataclass(frozen=True)
class PlayedRig:
    """Cameras with the left optical centre as origin, as stereo pairs are published in ROS."""

    left: CameraModel
    right: CameraModel | None
    cam_from_velo: NDArray[np.float64]


def played_rig(sequence: KittiSequence) -> PlayedRig:
    """Move KITTI's reference from cam0 into the left colour camera: P = [K | 0] there.

    P2 x = K (x + K^-1 p2), so the left camera stands at -K^-1 p2 of cam0, and
    P3 becomes [K | p3 - p2].
    """
    left = sequence.camera_left
    right = sequence.camera_right if sequence.has_right else None
    left_from_cam0 = np.eye(4)
    left_from_cam0[:3, 3] = np.linalg.solve(left.intrinsics, left.offset)
    cam0_from_left = np.linalg.inv(left_from_cam0)
    return PlayedRig(
        left=_seen_from(left, cam0_from_left),
        right=right and _seen_from(right, cam0_from_left),
        cam_from_velo=left_from_cam0 @ sequence.cam_from_velo,
    )


def _seen_from(camera: CameraModel, reference: NDArray[Any]) -> CameraModel:
    return CameraModel(camera.width, camera.height, camera.projection @ reference)


def left_in_velo(rig: PlayedRig) -> tuple[list[float], list[float]]:
    """Return position and quaternion x y z w of the left camera in the lidar frame."""
    pose: NDArray[np.float64] = np.linalg.inv(rig.cam_from_velo).astype(np.float64)
    return pose[:3, 3].tolist(), list(quaternion_xyzw(pose[:3, :3]))


def write_extrinsics(path: Path, rig: PlayedRig, output_frame: str) -> None:
    """Write the parameter file that tells the node `occ` where the left camera stands."""
    translation, rotation = left_in_velo(rig)
    extrinsics = {'source': 'parameters', 'translation': translation, 'rotation': rotation}
    parameters = {'output_frame': output_frame, 'extrinsics': extrinsics}
    content = {'/**': {'ros__parameters': parameters}}
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding='utf-8')


def static_transform(rig: PlayedRig, parent: str, child: str, stamp_ns: int) -> TransformStamped:
    """Return the pose of the left camera in the lidar frame for /tf_static."""
    (x, y, z), rotation = left_in_velo(rig)
    quaternion = dict(zip('xyzw', rotation, strict=True))
    return TransformStamped(
        header=header(stamp_ns, parent),
        child_frame_id=child,
        transform=Transform(translation=Vector3(x=x, y=y, z=z), rotation=Quaternion(**quaternion)),
    )


@dataclass(frozen=True)
class FrameMessages:
    """Make the messages of one frame; camera and lidar frame differ."""

    sequence: KittiSequence
    rig: PlayedRig
    camera_frame: str
    lidar_frame: str

    def __call__(self, frame: str, topics: Collection[str]) -> dict[str, Any]:
        """Return topic -> message for those of `topics` that the frame has, frames set."""
        makers: dict[str, Callable[[str], Any]] = {
            'camera_info': lambda _: info_from_camera(self.rig.left),
            'right/camera_info': lambda _: self.rig.right and info_from_camera(self.rig.right),
            'image': lambda f: image_from_rgb(self.sequence.image(f, 'left')),
            'right/image': self._right_image,
            'depth': self._depth,
            'velodyne': self._lidar,
            'ground_truth': self._ground_truth,
        }
        made = {topic: make(frame) for topic, make in makers.items() if topic in topics}
        messages = {topic: message for topic, message in made.items() if message is not None}
        for topic, message in messages.items():
            lidar = topic in ('velodyne', 'ground_truth')
            message.header.frame_id = self.lidar_frame if lidar else self.camera_frame
        return messages

    def _right_image(self, frame: str) -> Any:
        return self.rig.right and image_from_rgb(self.sequence.image(frame, 'right'))

    def _depth(self, frame: str) -> Any:
        if not self.sequence.has_depth(frame):
            return None
        return image_from_depth(self.sequence.depth(frame))

    def _lidar(self, frame: str) -> Any:
        if not self.sequence.has_velodyne(frame):
            return None
        return cloud_from_lidar(self.sequence.velodyne(frame), header(0, self.lidar_frame))

    def _ground_truth(self, frame: str) -> Any:
        if not self.sequence.has_voxel_labels(frame):
            return None
        labels = self.sequence.voxel_labels(frame)
        known = np.where(labels == IGNORE, EMPTY, labels).astype(np.uint8)
        probability = np.where(known == EMPTY, 0, CERTAIN).astype(np.uint8)
        grid = self.sequence.grid
        return cloud_from_occupancy(Occupancy(known, probability, grid, 0, self.lidar_frame))
