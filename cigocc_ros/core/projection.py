"""Between the grid frame (velodyne) and pixels, in float64.

Frames: `velo` is the frame of the voxel grid, `cam` the camera's reference frame (z forward).
With M = projection @ cam_from_velo = [B | t], depth * (u, v, 1) = B x + t; depth is the distance
along the optical axis in metres (REP-118).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.arrays import Floats
from cigocc_ros.core.camera import CameraModel
from cigocc_ros.core.errors import CalibrationError
from cigocc_ros.core.grid import VoxelGrid

MIN_DEPTH_M = 1e-5


def check_transform(transform: NDArray[Any], name: str) -> Floats:
    """Return `transform` as float64 (4, 4); raise CalibrationError unless it is rigid."""
    matrix = np.asarray(transform, dtype=np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise CalibrationError(f'{name} must be a finite (4, 4) matrix, found {matrix.tolist()}')
    rotation = matrix[:3, :3]
    orthonormal = np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3)
    if not orthonormal or not np.allclose(matrix[3], [0, 0, 0, 1]):
        raise CalibrationError(f'{name} must be rigid [R t; 0 1], found {matrix.tolist()}')
    if np.linalg.det(rotation) < 0:
        raise CalibrationError(f'{name} mirrors space (det R = -1): check the axis order')
    return matrix


def pixel_from_velo(camera: CameraModel, cam_from_velo: NDArray[Any]) -> Floats:
    """Return the projection of grid-frame points to homogeneous pixels, (3, 4)."""
    return camera.projection @ np.asarray(cam_from_velo, dtype=np.float64)


def velo_from_pixel(pixel_from_velo: NDArray[Any]) -> Floats:
    """Return [A | c], (3, 4): pixel (u, v) at depth d lies at A (d u, d v, d) + c."""
    matrix = np.asarray(pixel_from_velo, dtype=np.float64)
    try:
        inverse = np.linalg.inv(matrix[:, :3])
    except np.linalg.LinAlgError as error:
        raise CalibrationError(
            f'a projection must be invertible, found {matrix.tolist()}'
        ) from error
    return np.hstack([inverse, -inverse @ matrix[:, 3:]])


def project_points(
    points_velo: NDArray[Any], camera: CameraModel, cam_from_velo: NDArray[Any]
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Project points (..., 3) and return pixel_uv (..., 2), depth_m (...), in_image (...).

    in_image: depth > 1e-5 and 0 < u < width, 0 < v < height. Pixels of points at or behind the
    camera are meaningless and masked by it.
    """
    matrix = pixel_from_velo(camera, cam_from_velo)
    return project_by_matrix(points_velo, matrix, (camera.height, camera.width))


def project_by_matrix(
    points_velo: NDArray[Any], pixel_from_velo: NDArray[Any], image_size: tuple[int, int]
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Do what `project_points` does with a (3, 4) matrix and an image of (height, width)."""
    height, width = image_size
    matrix = np.asarray(pixel_from_velo, dtype=np.float64)
    homogeneous = np.asarray(points_velo, dtype=np.float64) @ matrix[:, :3].T + matrix[:, 3]
    depth = homogeneous[..., 2]
    in_front = depth > MIN_DEPTH_M
    pixel_uv = homogeneous[..., :2] / np.where(in_front, depth, 1.0)[..., None]
    u, v = pixel_uv[..., 0], pixel_uv[..., 1]
    in_image = in_front & (u > 0) & (u < width) & (v > 0) & (v < height)
    return pixel_uv, depth, in_image


def project_voxels(
    grid: VoxelGrid, camera: CameraModel, cam_from_velo: NDArray[Any]
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Project all voxel centres: pixel_uv (X, Y, Z, 2), depth_m (X, Y, Z), in_image (X, Y, Z)."""
    return project_points(grid.centers_m(), camera, cam_from_velo)


def unproject(
    pixel_uv: NDArray[Any], depth_m: NDArray[Any], camera: CameraModel, cam_from_velo: NDArray[Any]
) -> Floats:
    """Return the grid-frame points (..., 3) of pixels (..., 2) at depth_m (...)."""
    inverse = velo_from_pixel(pixel_from_velo(camera, cam_from_velo))
    depth = np.asarray(depth_m, dtype=np.float64)[..., None]
    scaled = np.concatenate([np.asarray(pixel_uv, dtype=np.float64) * depth, depth], axis=-1)
    return scaled @ inverse[:, :3].T + inverse[:, 3]
