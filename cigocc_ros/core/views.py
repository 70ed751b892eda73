"""How the camera sees a voxel: not at all, inside the image, or where depth was measured too."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.config import FEATURE_STRIDE
from cigocc_ros.core.grid import VoxelGrid
from cigocc_ros.core.projection import project_by_matrix

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
    uv, _, inside = project_by_matrix(grid.centers_m(), pixel_from_velo, (height, width))
    rows, columns = height // FEATURE_STRIDE, width // FEATURE_STRIDE
    cells = (depth_prior > 0).reshape(rows, FEATURE_STRIDE, columns, FEATURE_STRIDE)
    known = cells.mean((1, 3)) >= MEASURED_FROM
    cell = ((uv[inside] + 0.5) // FEATURE_STRIDE).astype(np.int64)
    column, row = np.clip(cell, 0, (columns - 1, rows - 1)).T
    views = np.full(grid.shape, OUTSIDE, np.uint8)
    views[inside] = np.where(known[row, column], MEASURED, SEEN)
    return views
