"""Turn the network's outputs into the occupancy of a frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.errors import FrameError
from cigocc_ros.core.frames import CameraFrame, Occupancy
from cigocc_ros.core.grid import VoxelGrid
from cigocc_ros.core.labels import spread_labels
from cigocc_ros.core.manifest import LABELS, OCCUPIED_PROBABILITY
from cigocc_ros.runtime.contract import Arrays


def occupancy_from_outputs(outputs: Arrays, grid: VoxelGrid, frame: CameraFrame) -> Occupancy:
    """Return the occupancy of a frame: its stamp, its grid frame, views of the output arrays."""
    return Occupancy(
        labels=outputs[LABELS][0],
        probability=outputs[OCCUPIED_PROBABILITY][0],
        grid=grid,
        stamp_ns=frame.stamp_ns,
        frame_id=frame.grid_frame_id,
    )


def labels_on_grid(occupancy: Occupancy, grid: VoxelGrid) -> NDArray[np.uint8]:
    """Return the train ids on a finer grid of the same extent, (X, Y, Z): each voxel's nearest.

    Raises FrameError unless `grid` divides every voxel of the occupancy into whole parts.
    """
    coarse = occupancy.grid
    pairs = list(zip(grid.shape, coarse.shape, strict=True))
    if coarse.with_shape(grid.shape) != grid or any(fine % n for fine, n in pairs):
        raise FrameError(f'expected a grid that refines {coarse}, found {grid}')
    return spread_labels(occupancy.labels, grid.shape)
