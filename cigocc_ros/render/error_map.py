"""Where a prediction is right and how it is wrong, voxel by voxel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.grid import VoxelGrid
from cigocc_ros.core.labels import EMPTY, IGNORE, coarsen_labels

NOTHING, RIGHT, WRONG_CLASS, MISSED, INVENTED = range(5)
VERDICTS = ('nothing', 'right', 'wrong class', 'missed', 'invented')
VERDICT_RGB: NDArray[np.uint8] = np.array(
    # distinguishable with red-green blindness: blue against orange, light against dark
    [[0, 0, 0], [86, 180, 233], [240, 228, 66], [60, 60, 66], [213, 94, 0]],
    np.uint8,
)


@dataclass(frozen=True)
class ErrorMap:
    """Verdicts (X, Y, Z) uint8 on the known voxels of `grid`; unknown ones are NOTHING."""

    verdicts: NDArray[np.uint8]
    grid: VoxelGrid

    @property
    def counts(self) -> dict[str, int]:
        """Number of voxels by verdict, without those where nothing is and nothing was said."""
        numbers = np.bincount(self.verdicts.ravel(), minlength=len(VERDICTS)).tolist()
        return dict(zip(VERDICTS[1:], numbers[1:], strict=True))

    @property
    def iou(self) -> float:
        """Share right or of a wrong class among all that is occupied in either; nan of none."""
        both = self.counts['right'] + self.counts['wrong class']
        either = sum(self.counts.values())
        return both / either if either else float('nan')


def judge(predicted: NDArray[np.uint8], truth: NDArray[np.uint8], grid: VoxelGrid) -> ErrorMap:
    """Judge train ids (X, Y, Z) by ground truth of the same grid, or of a finer one.

    Finer ground truth is merged into the voxels of the prediction, by the rule of the
    half-resolution labels (core.labels.coarsen_labels), so that every voxel has one verdict.
    Raises ConfigError where the shapes do not divide.
    """
    truth = on_shape_of(truth, predicted)
    known = truth != IGNORE
    said, there = predicted != EMPTY, (truth != EMPTY) & known
    verdicts = np.zeros(predicted.shape, np.uint8)
    verdicts[said & there] = WRONG_CLASS
    verdicts[said & (predicted == truth)] = RIGHT
    verdicts[~said & there] = MISSED
    verdicts[said & known & ~there] = INVENTED
    return ErrorMap(verdicts, grid)


def on_shape_of(truth: NDArray[np.uint8], predicted: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return ground truth merged to the shape of a prediction; raise ConfigError."""
    pairs = list(zip(truth.shape, predicted.shape, strict=True))
    if any(fine % coarse for fine, coarse in pairs):
        raise ConfigError(
            f'expected ground truth that divides a grid of {predicted.shape}, found {truth.shape}'
        )
    x, y, z = (fine // coarse for fine, coarse in pairs)
    return truth if x == y == z == 1 else coarsen_labels(truth, (x, y, z))
