"""Read one camera's calibration from KITTI's calib.txt or from a small YAML file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.camera import CameraModel
from cigocc_ros.core.errors import CalibrationError
from cigocc_ros.core.projection import check_transform
from cigocc_ros.core.typed_yaml import from_mapping, load_yaml
from cigocc_ros.data.kitti_files import read_calib

YAML_SUFFIXES = ('.yaml', '.yml')
HOMOGENEOUS_ROW = (0.0, 0.0, 0.0, 1.0)
Row = tuple[float, float, float, float]


@dataclass(frozen=True)
class MountedCamera:
    """A left camera, where it is mounted, and its right twin where the file has one."""

    left: CameraModel
    cam_from_velo: NDArray[np.float64]
    right: CameraModel | None = None


@dataclass(frozen=True)
class CameraFile:
    """Keys of the YAML file."""

    fx: float
    fy: float
    cx: float
    cy: float
    """Intrinsics of the rectified image, in pixels."""
    cam_from_velo: tuple[Row, ...]
    """Rows [R | t] of the transform, metres: 3, or 4 with 0 0 0 1."""
    baseline_m: float | None = None
    """How far to the right a second camera of the same intrinsics is, where there is one."""


def read_camera(path: Path, width: int, height: int) -> MountedCamera:
    """Read the calibration of images of `width` x `height`.

    A .yaml file holds `CameraFile`; anything else is read as KITTI's calib.txt (P2, Tr, P3).
    Raises CalibrationError, ConfigError or DataFileError naming what is missing.
    """
    if not path.is_file():
        raise CalibrationError(
            f'no calibration file {path}: expected a KITTI calib.txt, or a YAML file with '
            'fx, fy, cx, cy and cam_from_velo'
        )
    if path.suffix in YAML_SUFFIXES:
        return _from_yaml(path, width, height)
    rows = read_calib(path, required=('P2', 'Tr'))
    return MountedCamera(
        CameraModel(width, height, rows['P2']),
        check_transform(np.vstack([rows['Tr'], HOMOGENEOUS_ROW]), f'{path}: Tr'),
        CameraModel(width, height, rows['P3']) if 'P3' in rows else None,
    )


def _from_yaml(path: Path, width: int, height: int) -> MountedCamera:
    file = from_mapping(CameraFile, load_yaml(path), str(path))
    left = CameraModel.from_intrinsics(file.fx, file.fy, file.cx, file.cy, width, height)
    rows = list(file.cam_from_velo)
    if len(rows) == 3:
        rows.append(HOMOGENEOUS_ROW)
    cam_from_velo = check_transform(np.array(rows), f'{path}: cam_from_velo')
    if file.baseline_m is None:
        return MountedCamera(left, cam_from_velo)
    projection = left.projection.copy()
    projection[0, 3] = -file.fx * file.baseline_m
    return MountedCamera(left, cam_from_velo, CameraModel(width, height, projection))
