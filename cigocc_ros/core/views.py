"""How the camera sees a voxel: not at all, inside the image, or where depth was measured too."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.config import FEATURE_STRIDE
from cigocc_ros.core.grid import VoxelGrid
from cigocc_ros.core.projection import MIN_DEPTH_M

VIEWS = ('outside', 'seen', 'measured')
OUTSIDE, SEEN, MEASURED = range(len(VIEWS))
"""The centre is outside the image; inside; inside, on a cell of which depth was measured."""
MEASURED_FROM = 0.5
"""Least share of the pixels of a stride-4 cell with known depth, for the cell to be measured."""


def views_of_voxels(
    grid: VoxelGrid, pixel_from_velo: NDArray[Any], depth_prior: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """Return the index into VIEWS of each voxel, (X, Y, Z), as the exported graph tells them.

    pixel_from_velo (3, 4) and depth_prior (H, W), metres with 0 = unknown, are those of the
    network's input. The depth of the voxel does not matter: what lies behind a surface is seen.
    """
    height, width = depth_prior.shape
    matrix = np.asarray(pixel_from_velo, dtype=np.float64)
    u, v, depth = np.moveaxis(grid.centers_m() @ matrix[:, :3].T + matrix[:, 3], -1, 0)
    in_front = depth > MIN_DEPTH_M
    u, v = (np.divide(x, depth, out=np.full_like(x, -1.0), where=in_front) for x in (u, v))
    inside = in_front & (u > 0) & (u < width) & (v > 0) & (v < height)
    rows, columns = height // FEATURE_STRIDE, width // FEATURE_STRIDE
    cells = (depth_prior > 0).reshape(rows, FEATURE_STRIDE, columns, FEATURE_STRIDE)
    known = cells.mean((1, 3)) >= MEASURED_FROM
    row = np.clip((v[inside] + 0.5) // FEATURE_STRIDE, 0, rows - 1).astype(np.int64)
    column = np.clip((u[inside] + 0.5) // FEATURE_STRIDE, 0, columns - 1).astype(np.int64)
    views = np.full(grid.shape, OUTSIDE, np.uint8)
    views[inside] = np.where(known[row, column], MEASURED, SEEN)
    return views
