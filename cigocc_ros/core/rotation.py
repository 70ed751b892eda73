"""Rotations between matrix and quaternion (x y z w, as ROS messages carry them)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cigocc_ros.core.errors import CalibrationError

UNIT_TOLERANCE = 1e-2
Quaternion = tuple[float, float, float, float]


def rigid_transform(translation: ArrayLike, rotation_xyzw: ArrayLike) -> NDArray[np.float64]:
    """Return the (4, 4) matrix of a translation and a unit quaternion; raise CalibrationError."""
    quaternion = np.asarray(rotation_xyzw, dtype=np.float64)
    length = float(np.linalg.norm(quaternion))
    if quaternion.shape != (4,) or not abs(length - 1.0) < UNIT_TOLERANCE:
        raise CalibrationError(
            f'a rotation must be a unit quaternion x y z w, found {quaternion.tolist()}'
        )
    x, y, z, w = quaternion / length
    matrix = np.eye(4)
    matrix[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    matrix[:3, 3] = np.asarray(translation, dtype=np.float64)
    return matrix


def quaternion_xyzw(rotation: NDArray[np.float64]) -> Quaternion:
    """Return the unit quaternion of a rotation matrix (3, 3), with w or the largest part > 0.

    It is the eigenvector of the largest eigenvalue of Bar-Itzhack's symmetric matrix, which also
    gives the nearest rotation where the matrix carries rounding errors.
    """
    r = rotation
    symmetric = np.array(
        [
            [r[0, 0] - r[1, 1] - r[2, 2], r[1, 0] + r[0, 1], r[2, 0] + r[0, 2], r[2, 1] - r[1, 2]],
            [r[1, 0] + r[0, 1], r[1, 1] - r[0, 0] - r[2, 2], r[2, 1] + r[1, 2], r[0, 2] - r[2, 0]],
            [r[2, 0] + r[0, 2], r[2, 1] + r[1, 2], r[2, 2] - r[0, 0] - r[1, 1], r[1, 0] - r[0, 1]],
            [r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1], np.trace(r)],
        ]
    )
    vector = np.linalg.eigh(symmetric)[1][:, -1]
    leading = vector[3] if abs(vector[3]) > 1e-9 else vector[np.argmax(np.abs(vector))]
    x, y, z, w = (float(value) for value in np.sign(leading) * vector)
    return x, y, z, w
