"""Point clouds and depth images in the very bytes of PointCloud2 and Image."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.frames import Occupancy
from cigocc_ros.core.grid import VoxelGrid
from cigocc_ros.core.labels import PALETTE_RGB

# RViz and PCL read colours as 0x00RRGGBB in the bits of a FLOAT32 named rgb (pcl::PointXYZRGBL).
OCCUPANCY_DTYPE = np.dtype(
    [
        ('x', '<f4'),
        ('y', '<f4'),
        ('z', '<f4'),
        ('rgb', '<f4'),
        ('label', '<u4'),
        ('probability', '<f4'),
    ]
)
CLASS_CONFIDENCE = 'class_confidence'
SURE_OCCUPANCY_DTYPE = np.dtype([*OCCUPANCY_DTYPE.descr, (CLASS_CONFIDENCE, '<f4')])
"""Of models that say how probable the class is, given that the voxel is occupied."""
LIDAR_DTYPE = np.dtype([('x', '<f4'), ('y', '<f4'), ('z', '<f4'), ('intensity', '<f4')])


@lru_cache(maxsize=1)
def packed_palette() -> NDArray[np.float32]:
    """Return the class colours packed as FLOAT32 0x00RRGGBB, (20,); not to be written to."""
    red, green, blue = PALETTE_RGB.astype(np.uint32).T
    packed: NDArray[np.float32] = (red << 16 | green << 8 | blue).astype('<u4').view('<f4')
    packed.flags.writeable = False
    return packed


@lru_cache(maxsize=4)
def axis_centers_m(grid: VoxelGrid) -> tuple[NDArray[np.float32], ...]:
    """Return the voxel centres along x, y and z, in metres; not to be written to."""
    return tuple(centers.astype(np.float32) for centers in grid.axis_centers_m)


def occupancy_points(occupancy: Occupancy) -> NDArray[Any]:
    """Return the occupied voxels as a structured array, (N,).

    Of SURE_OCCUPANCY_DTYPE where the occupancy has class probabilities, else of OCCUPANCY_DTYPE.
    """
    flat, sure = occupancy.occupied_index, occupancy.class_probability
    points = np.empty(flat.size, OCCUPANCY_DTYPE if sure is None else SURE_OCCUPANCY_DTYPE)
    along = occupancy.grid.split_index(flat)
    for name, centers, index in zip('xyz', axis_centers_m(occupancy.grid), along, strict=True):
        points[name] = centers.take(index)
    labels = occupancy.labels.ravel().take(flat)
    points['rgb'] = packed_palette().take(labels)
    points['label'] = labels
    points['probability'] = occupancy.probability.ravel().take(flat) / np.float32(255)
    if sure is not None:
        points[CLASS_CONFIDENCE] = sure.ravel().take(flat) / np.float32(255)
    return points


def lidar_points(scan: NDArray[np.float32]) -> NDArray[Any]:
    """Return a scan (N, 4) x, y, z, intensity as a structured array of LIDAR_DTYPE, (N,)."""
    return np.ascontiguousarray(scan, dtype='<f4').view(LIDAR_DTYPE)[:, 0]


def depth_pixels(depth_m: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (H, W) metres, 0 where unknown, as 32FC1 has them: NaN where unknown (REP 118)."""
    return np.where(depth_m > 0, depth_m, np.nan).astype('<f4')
