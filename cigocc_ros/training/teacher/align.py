"""Bring what a teacher said of the source image to the cells of the model's input."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.config import FEATURE_STRIDE
from cigocc_ros.core.errors import DataFileError
from cigocc_ros.runtime.preprocess import ImageFit
from cigocc_ros.training.cells import MIN_CLASS_SHARE, MIN_KNOWN_SHARE
from cigocc_ros.training.teacher.output import TeacherOutput


@dataclass(frozen=True, eq=False)
class AlignedTeacher:
    """A teacher's output, and how it comes to stride 4 of the model's input, (h, w) cells.

    grid (C, gh, gw) float16 are its features on their own points; rows (h, gh) and columns (w, gw)
    float32 weigh the points for each cell, all 0 outside the image. masks (19, h, w) bool;
    masks_valid (19, h, w) bool, False where the teacher says nothing, be it of the place or of the
    class.
    """

    grid: NDArray[np.float16]
    rows: NDArray[np.float32]
    columns: NDArray[np.float32]
    masks: NDArray[np.bool_]
    masks_valid: NDArray[np.bool_]

    @cached_property
    def features(self) -> NDArray[np.float32]:
        """The features of the cells, (C, h, w), 0 where features_valid is False."""
        return features_of_cells(self.grid.astype(np.float32), self.rows, self.columns)

    @cached_property
    def features_valid(self) -> NDArray[np.bool_]:
        """Which cells lie in the image, (h, w)."""
        return valid_cells(self.rows, self.columns)


def align(output: TeacherOutput, knows: NDArray[np.bool_], fit: ImageFit) -> AlignedTeacher:
    """Fit an output as `fit` fits its image; raise DataFileError where that has another size.

    `knows` (19,) bool are the classes that the teacher can tell.
    """
    if output.image_size != fit.source_size:
        raise DataFileError(
            f'the teacher saw an image of (H, W) = {output.image_size}, the camera has '
            f'{fit.source_size}: a cache of other data? run "cigocc teacher" on these images'
        )
    masks, valid = _masks(output, fit)
    return AlignedTeacher(
        output.features, *_weights(output, fit), masks, valid & knows[:, None, None]
    )


def features_of_cells(
    grid: NDArray[np.float32], rows: NDArray[np.float32], columns: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Bring features (C, gh, gw) to cells (C, h, w); 0 outside the image."""
    features: NDArray[np.float32] = np.matmul(np.matmul(rows, grid), columns.T)
    return features


def valid_cells(rows: NDArray[np.float32], columns: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which cells lie in the image, (h, w)."""
    return np.outer(np.any(rows, axis=1), np.any(columns, axis=1)).astype(bool)


def _weights(
    output: TeacherOutput, fit: ImageFit
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Average, over each cell, the bilinear interpolation at its pixels inside the image.

    Bilinear interpolation and the mean are separable: one matrix for rows, one for columns.
    """
    sizes = (fit.camera_in.height, fit.camera_in.width)
    firsts = (fit.crop_top, 0)
    rows, columns = (
        _cell_weights(
            points=output.features.shape[1 + axis],
            origin=output.origin_px[axis],
            step=output.step_px[axis],
            source=_source_pixels(fit, axis, firsts[axis]),
            cells=sizes[axis] // FEATURE_STRIDE,
        )
        for axis in (0, 1)
    )
    return rows, columns


def _source_pixels(fit: ImageFit, axis: int, first: int) -> NDArray[np.floating]:
    """Return where the kept pixels of the input lie in the source, as continuous pixels."""
    index = np.arange(first, first + fit.kept_size[axis])
    ratio = fit.source_size[axis] / fit.scaled_size[axis]
    return (index + 0.5) * ratio - 0.5


def _cell_weights(
    points: int, origin: float, step: float, source: NDArray[np.floating], cells: int
) -> NDArray[np.float32]:
    """Return weights (cells, points), 0 for cells with less than half their pixels."""
    position = np.clip((source - origin) / step, 0, points - 1)
    low = np.minimum(position.astype(np.int64), max(points - 2, 0))
    share = position - low
    cell = np.arange(len(source)) // FEATURE_STRIDE
    weights = np.zeros((cells, points))
    np.add.at(weights, (cell, low), 1 - share)
    np.add.at(weights, (cell, np.minimum(low + 1, points - 1)), share)
    count = np.bincount(cell, minlength=cells)
    weights[count < MIN_KNOWN_SHARE * FEATURE_STRIDE] = 0
    return (weights / np.maximum(count, 1)[:, None]).astype(np.float32)


def _masks(output: TeacherOutput, fit: ImageFit) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Apply the rule of training.cache.cell_masks to masks that may overlap."""
    valid = _share(fit.apply_nearest(output.valid, False)) >= MIN_KNOWN_SHARE
    shown = output.masks & output.valid
    shares = [_share(fit.apply_nearest(mask, False)) for mask in shown]
    masks = (np.stack(shares) >= MIN_CLASS_SHARE) & valid
    return masks, np.broadcast_to(valid, masks.shape)


def _share(pixels: NDArray[np.bool_]) -> NDArray[np.floating]:
    height, width = (size // FEATURE_STRIDE for size in pixels.shape)
    cells = pixels.reshape(height, FEATURE_STRIDE, width, FEATURE_STRIDE)
    share: NDArray[np.floating] = cells.mean((1, 3))
    return share
