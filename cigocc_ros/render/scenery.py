"""What is drawn besides the voxels: the ground plate with its scale, and the vehicle."""

from __future__ import annotations

import numpy as np

from cigocc_ros.core.grid import VoxelGrid
from cigocc_ros.render.quads import Quads, box, merge, quads

PLATE_RGB, PLATE_PITCH_M, PLATE_BEHIND_M = (0.86, 0.87, 0.89), 10.0, 10.0
EGO_RGB, EGO_CABIN_RGB = (0.98, 0.98, 0.98), (0.25, 0.28, 0.33)
EGO_GROUND_M = -1.73  # KITTI: height of the velodyne above the road


def ground_plate(grid: VoxelGrid) -> Quads:
    """Return a plate under the grid, ruled every 10 m, that reaches behind the vehicle."""
    (x, y, z), (length, width, _) = grid.origin_m, grid.extent_m
    corner = (x - PLATE_BEHIND_M, y, z - 0.01)
    edges = ((length + PLATE_BEHIND_M, 0, 0), (0, width, 0))
    return quads(corner, *edges, PLATE_RGB, PLATE_PITCH_M)


def ego_marker() -> Quads:
    """Return a plain car around the origin of the velodyne frame, heading along +x."""
    ground = np.array([0, 0, EGO_GROUND_M])
    return merge(
        [
            box(ground + (-2.6, -0.9, 0.35), ground + (1.7, 0.9, 0.95), EGO_RGB),
            box(ground + (-2.1, -0.78, 0.95), ground + (0.5, 0.78, 1.5), EGO_CABIN_RGB),
            box(ground + (-2.0, -0.74, 1.5), ground + (0.3, 0.74, 1.56), EGO_RGB),
            box(ground + (-2.4, -0.8, 0.0), ground + (1.5, 0.8, 0.35), EGO_CABIN_RGB),
        ]
    )
