"""A KITTI rig in the conventions of ROS: what a bag and a player publish of it.

KITTI writes its projections for points in the frame of camera 0, P2 = [K | p2]. ROS wants the left
camera at the origin of its own optical frame, P = [K | 0], so the offset moves into the pose:
`P2 cam0_from_velo = K [I | K^-1 p2] cam0_from_velo`. Pixels and depths stay the same.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.camera import CameraModel, stereo_focal_baseline
from cigocc_ros.core.frames import LIDAR_FRAME, Occupancy
from cigocc_ros.core.labels import EMPTY, IGNORE
from cigocc_ros.core.rotation import Quaternion, quaternion_xyzw
from cigocc_ros.data.kitti_layout import RIGHT_IMAGES, lacking
from cigocc_ros.data.kitti_sequence import FrameId, KittiSequence, Side

logger = logging.getLogger(__name__)

LEFT_FRAME = 'camera_color_left'
RIGHT_FRAME = 'camera_color_right'
CERTAIN = 255
Transform = NDArray[np.float64]


@dataclass(frozen=True)
class RigCamera:
    """A camera as ROS describes it.

    model: its projection is the P of the CameraInfo, K its first three columns; [K | 0] for the
    left camera, [K | (-f*b, 0, 0)] for the right one. cam_from_velo: (4, 4), true position.
    """

    frame_id: str
    model: CameraModel
    cam_from_velo: Transform


@dataclass(frozen=True)
class StaticPose:
    """Where `child` stands in `parent`: metres and a unit quaternion x y z w."""

    parent: str
    child: str
    translation_m: tuple[float, float, float]
    rotation_xyzw: Quaternion


@dataclass(frozen=True)
class KittiRig:
    """The colour cameras of a sequence around its lidar; right is None without right images."""

    left: RigCamera
    right: RigCamera | None

    @property
    def cameras(self) -> tuple[RigCamera, ...]:
        """The cameras that there are, left first."""
        return (self.left,) if self.right is None else (self.left, self.right)

    def camera(self, side: Side) -> RigCamera | None:
        """Return the camera of a side; None for a right one that there is not."""
        return self.left if side == 'left' else self.right

    def without_right(self) -> KittiRig:
        """Return the rig with its left camera alone."""
        return KittiRig(self.left, None)

    def static_poses(self, lidar_frame: str = LIDAR_FRAME) -> tuple[StaticPose, ...]:
        """Return the pose of each camera in the lidar frame, as /tf_static carries it."""
        return tuple(camera_pose(camera, lidar_frame) for camera in self.cameras)


def rig_of_sequence(
    sequence: KittiSequence, left_frame: str = LEFT_FRAME, right_frame: str = RIGHT_FRAME
) -> KittiRig:
    """Return the rig of a sequence; raise CalibrationError where left and right do not fit."""
    left = sequence.camera_left
    intrinsics = np.hstack([left.intrinsics, np.zeros((3, 1))])
    left_camera = RigCamera(
        left_frame,
        CameraModel(left.width, left.height, intrinsics),
        true_pose(left, sequence.cam_from_velo),
    )
    right = _right_camera(sequence, right_frame) if sequence.has_right else None
    if 0 < len(sequence.frames_without_right) < len(sequence):
        logger.warning(
            'without a right camera: %s',
            lacking(sequence.path, list(sequence.frame_ids), RIGHT_IMAGES),
        )
    return KittiRig(left_camera, right)


def true_pose(camera: CameraModel, cam0_from_velo: Transform) -> Transform:
    """Return [I | K^-1 p] cam0_from_velo, (4, 4): in that frame the camera has P = [K | 0]."""
    cam_from_cam0 = np.eye(4)
    cam_from_cam0[:3, 3] = np.linalg.solve(camera.intrinsics, camera.offset)
    pose: Transform = cam_from_cam0 @ cam0_from_velo
    return pose


def camera_pose(camera: RigCamera, lidar_frame: str = LIDAR_FRAME) -> StaticPose:
    """Return the pose of a camera in the lidar frame."""
    velo_from_cam = np.linalg.inv(camera.cam_from_velo).astype(np.float64)
    x, y, z = velo_from_cam[:3, 3].tolist()
    rotation = quaternion_xyzw(velo_from_cam[:3, :3])
    return StaticPose(lidar_frame, camera.frame_id, (x, y, z), rotation)


def ground_truth(
    sequence: KittiSequence, frame_id: FrameId, stamp_ns: int, lidar_frame: str = LIDAR_FRAME
) -> Occupancy:
    """Return the labelled volume of a frame; unknown voxels are left out like empty ones."""
    labels = sequence.voxel_labels(frame_id)
    labels[labels == IGNORE] = EMPTY
    probability = np.where(labels == EMPTY, 0, CERTAIN).astype(np.uint8)
    return Occupancy(labels, probability, sequence.grid, stamp_ns, lidar_frame)


def _right_camera(sequence: KittiSequence, frame_id: str) -> RigCamera:
    """Return the right camera; KITTI's rows differ by millimetres, ROS knows one baseline."""
    right = sequence.camera_right
    offset = np.array([[-stereo_focal_baseline(sequence.camera_left, right)], [0.0], [0.0]])
    model = CameraModel(right.width, right.height, np.hstack([right.intrinsics, offset]))
    return RigCamera(frame_id, model, true_pose(right, sequence.cam_from_velo))
