"""Scores of the whole volume and of boxes near the car, counted together."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID, VoxelGrid
from cigocc_ros.evaluation.metrics import SscMetrics, SscScores

RANGES_M = (12.8, 25.6, 51.2)
"""Forward reach of the boxes; the last is the whole volume of SemanticKITTI."""

Box = tuple[slice, slice]


def range_box(range_m: float, grid: VoxelGrid = SEMANTIC_KITTI_GRID) -> Box:
    """Return the x and y slices of the voxels whose centre has x < R and |y| < R/2, metres.

    VoxFormer's short-range evaluation; all heights take part.
    """
    x_m, y_m = (_axis_centers(grid, axis) for axis in (0, 1))
    return _slice(x_m < range_m), _slice(np.abs(y_m) < range_m / 2)


class RangedMetrics:
    """An SscMetrics for every range."""

    def __init__(
        self, ranges_m: tuple[float, ...] = RANGES_M, grid: VoxelGrid = SEMANTIC_KITTI_GRID
    ) -> None:
        """Start with no frames."""
        self.grid = grid
        self.metrics = {range_m: SscMetrics() for range_m in ranges_m}
        self._boxes = {range_m: range_box(range_m, grid) for range_m in ranges_m}

    def update(self, prediction: NDArray[Any], target: NDArray[Any]) -> None:
        """Add train ids (X, Y, Z) of the whole grid against `target` (255 = unknown)."""
        for name, labels in (('prediction', prediction), ('target', target)):
            if labels.shape != self.grid.shape:
                raise DataFileError(f'{name}: expected {self.grid.shape}, found {labels.shape}')
        for range_m, box in self._boxes.items():
            self.metrics[range_m].update(prediction[box], target[box])

    def compute(self) -> dict[float, SscScores]:
        """Return the scores of everything added so far, by range."""
        return {range_m: metrics.compute() for range_m, metrics in self.metrics.items()}


def _axis_centers(grid: VoxelGrid, axis: int) -> NDArray[np.float64]:
    index = np.zeros((grid.shape[axis], 3))
    index[:, axis] = np.arange(grid.shape[axis])
    return grid.center_of(index)[:, axis]


def _slice(inside: NDArray[np.bool_]) -> slice:
    """Return the slice of a run of true values."""
    index = np.flatnonzero(inside)
    return slice(int(index[0]), int(index[-1]) + 1) if index.size else slice(0, 0)
