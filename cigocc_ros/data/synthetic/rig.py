"""The sensor rig of a synthetic vehicle: a stereo pair and a lidar, as KITTI mounts them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.camera import CameraModel

_CAM_AXES = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])
"""Optical axes (x right, y down, z forward) from vehicle axes (x forward, y left, z up)."""

KITTI_SHARE = 0.6
_KITTI = ((0.301, 0.57, 0.485, 0.455, 1.66), (0.305, 0.592, 0.505, 0.505, 1.8))
_OTHER = ((0.29, 0.5, 0.47, 0.42, 1.5), (0.38, 0.72, 0.53, 0.58, 2.0))
"""Lowest and highest height, focal length and centre (shares of width, of height for the last),
and the lidar's height over the road in metres; KITTI's are 0.30, 0.58, 0.49, 0.46-0.50, 1.73."""
_KITTI_TILT, _OTHER_TILT = (0.3, 0.5, 0.4), (0.6, 1.2, 0.8)
"""Standard deviation of roll, pitch and yaw of the camera, degrees."""


@dataclass(frozen=True)
class Rig:
    """Cameras relative to cam0 and cam0 relative to the lidar; the lidar's height and attitude."""

    left: CameraModel
    right: CameraModel
    cam_from_velo: NDArray[np.float64]
    ground_from_velo: NDArray[np.float64]
    """Pose of the lidar over the road point below it."""

    def calibration(self) -> dict[str, NDArray[np.float64]]:
        """Return the rows of calib.txt."""
        grey = np.hstack([self.left.intrinsics, np.zeros((3, 1))])
        grey_right = grey.copy()
        grey_right[0, 3] = self.right.projection[0, 3] - self.left.projection[0, 3]
        return {
            'P0': grey,
            'P1': grey_right,
            'P2': self.left.projection,
            'P3': self.right.projection,
            'Tr': self.cam_from_velo[:3],
        }


def draw_rig(random: np.random.Generator, width: int) -> Rig:
    """Draw a rig: mostly KITTI's within its spread, else a camera of another make and height."""
    kitti = random.random() < KITTI_SHARE
    low, high = _KITTI if kitti else _OTHER
    shape, focal, middle, centre, lidar_m = random.uniform(low, high)
    height, focal = round(width * shape), width * focal
    cx, cy = width * middle, height * centre
    k = np.array([[focal, 0, cx], [0, focal, cy], [0, 0, 1]])
    baseline = random.uniform(0.45, 0.6)
    # cam2 stands a little beside cam0, as KITTI's P2 does: p2 = K t.
    offset = np.array([0.06, 0.0, 0.003]) * random.uniform(0.5, 1.5)
    left = CameraModel(width, height, np.hstack([k, (k @ offset)[:, None]]))
    moved_right = offset - [baseline, 0, 0]
    right = CameraModel(width, height, np.hstack([k, (k @ moved_right)[:, None]]))
    tilt = _rotation(*np.deg2rad(random.normal(size=3) * (_KITTI_TILT if kitti else _OTHER_TILT)))
    position = np.array([random.uniform(0.2, 0.35), 0.0, random.uniform(-0.15, 0.0)])
    cam_from_velo = np.eye(4)
    cam_from_velo[:3, :3] = _CAM_AXES @ tilt
    cam_from_velo[:3, 3] = -cam_from_velo[:3, :3] @ position
    ground_from_velo = np.eye(4)
    ground_from_velo[:3, :3] = _rotation(*np.deg2rad(random.normal(size=3) * [0.3, 0.5, 0.0]))
    ground_from_velo[2, 3] = lidar_m
    return Rig(left, right, cam_from_velo, ground_from_velo)


def _rotation(roll: float, pitch: float, yaw: float) -> NDArray[np.float64]:
    cr, sr, cp, sp, cy, sy = (f(a) for a in (roll, pitch, yaw) for f in (np.cos, np.sin))
    about_x = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    about_y = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    about_z = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1.0]])
    rotation: NDArray[np.float64] = about_z @ about_y @ about_x
    return rotation
