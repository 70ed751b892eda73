"""Turn a camera frame into the named input arrays of the network.

The only owner of how an image of any size is fitted to the model's input: scale (never up), crop
rows around the principal row, zero-pad right and bottom. Training uses the same functions, so what
the network sees on the vehicle is what it was trained on.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.camera import CameraModel
from cigocc_ros.core.errors import CalibrationError, FrameError
from cigocc_ros.core.frames import CameraFrame
from cigocc_ros.core.labels import NUM_CLASSES
from cigocc_ros.core.manifest import (
    DEPTH_PRIOR,
    IMAGE,
    PIXEL_FROM_VELO,
    SEMANTIC_PRIOR,
    VELO_FROM_PIXEL,
    ModelManifest,
)
from cigocc_ros.core.opencv import import_cv2
from cigocc_ros.core.projection import pixel_from_velo, velo_from_pixel
from cigocc_ros.runtime.contract import CELL_PX, Arrays

# A rig has one or two cameras; the room is for calibration refined online, each value an entry.
CACHED_CALIBRATIONS = 8
MIN_KNOWN_SHARE = 0.5
"""Share of a cell's pixels whose class must be known for the cell to have one."""
MAX_COEFFICIENT = 1e12
"""Far beyond any lens and pose; what the network makes of more has no meaning."""


@dataclass(frozen=True)
class ImageFit:
    """Say how images of one camera become the model's input.

    `scale` is the requested one; `scaled_size` (H, W) is what the integer pixel grid made of it
    and what the intrinsics of `camera_in` follow, axis by axis. `crop_top` rows of the scaled
    image are dropped at the top; `kept_size` (H, W) of it fills the top left corner of the
    (H_in, W_in) input.
    """

    scale: float
    crop_top: int
    camera_in: CameraModel
    source_size: tuple[int, int]
    scaled_size: tuple[int, int]
    kept_size: tuple[int, int]

    def apply(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resample (H, W, 3) uint8 by pixel area to (H_in, W_in, 3), zeros outside the image."""
        self._check_size(image, 'image')
        scaled = image
        if self.scaled_size != self.source_size:
            cv2 = import_cv2('resampling images')
            scaled = cv2.resize(image, self.scaled_size[::-1], interpolation=cv2.INTER_AREA)
        rows, columns = self.kept_size
        return self._placed(scaled[self.crop_top : self.crop_top + rows, :columns], 0)

    def apply_nearest(self, values: NDArray[Any], fill: float) -> NDArray[Any]:
        """Take the nearest pixel of (H, W, ...) -> (H_in, W_in, ...), `fill` outside the image."""
        self._check_size(values, 'map')
        rows, columns = self.kept_size
        if self.scaled_size == self.source_size:
            kept = values[self.crop_top : self.crop_top + rows, :columns]
        else:
            row, column = self._nearest_pixels
            kept = values.take(row, axis=0).take(column, axis=1)
        return self._placed(kept, fill)

    def apply_depth(self, depth_m: NDArray[np.float32]) -> NDArray[np.float32]:
        """Fit (H, W) metres to (H_in, W_in) float32 by nearest pixel; 0 stays 0, unknown."""
        return self.apply_nearest(depth_m, 0).astype(np.float32, copy=False)

    def apply_classes(self, classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Fit train ids (h, w) of this view, of any size, to the cells: (H_in/4, W_in/4) uint8.

        Each pixel of the input takes the nearest one, each cell the class of most of its pixels;
        the lowest id wins ties. 0 where fewer than half of them are known.
        """
        return majority_of_cells(self.apply_any_size(classes, 0))

    def apply_any_size(self, values: NDArray[Any], fill: float) -> NDArray[Any]:
        """Take the nearest pixel of a map (h, w) of this view, of any size -> (H_in, W_in)."""
        row, column = self._input_pixels(values.shape)
        return self._placed(values.take(row, axis=0).take(column, axis=1), fill)

    def _input_pixels(self, shape: tuple[int, ...]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the row and the column of an image of the view that each kept one shows."""
        rows, columns = self.kept_size
        row = np.arange(self.crop_top, self.crop_top + rows)
        scaled_height, scaled_width = self.scaled_size
        return (
            _nearest(row, shape[0], scaled_height),
            _nearest(np.arange(columns), shape[1], scaled_width),
        )

    @cached_property
    def _nearest_pixels(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Source row of each kept row and source column of each kept column."""
        return self._input_pixels(self.source_size)

    def _check_size(self, array: NDArray[Any], what: str) -> None:
        if array.shape[:2] != self.source_size:
            raise FrameError(
                f'expected a {what} of (H, W) = {self.source_size} as its calibration says, found '
                f'{array.shape[:2]}; rescale the calibration first (CameraModel.rescale)'
            )

    def _placed(self, kept: NDArray[Any], fill: float) -> NDArray[Any]:
        size = (self.camera_in.height, self.camera_in.width)
        if kept.shape[:2] == size:
            return np.ascontiguousarray(kept)
        placed = np.full((*size, *kept.shape[2:]), fill, dtype=kept.dtype)
        placed[: kept.shape[0], : kept.shape[1]] = kept
        return placed


def fit_camera(camera: CameraModel, image_size: tuple[int, int]) -> ImageFit:
    """Fit a camera to the model's (H_in, W_in): scale down to the width, then crop rows or pad.

    The crop leaves the principal row as near to the middle of the input as possible, so that
    cameras of other shapes put the horizon where training had it.
    """
    height_in, width_in = image_size
    scale = min(1.0, width_in / camera.width)
    height, width = max(1, round(camera.height * scale)), max(1, round(camera.width * scale))
    scaled = camera.rescale(width, height)
    kept_height = min(height, height_in)
    wanted_top = round(float(scaled.intrinsics[1, 2]) - 0.5 * height_in)
    top = min(max(wanted_top, 0), height - kept_height)
    fitted = scaled.crop(0, top, width, kept_height).pad(width_in - width, height_in - kept_height)
    return ImageFit(
        scale=scale,
        crop_top=top,
        camera_in=fitted,
        source_size=(camera.height, camera.width),
        scaled_size=(height, width),
        kept_size=(kept_height, width),
    )


@dataclass(frozen=True)
class CalibrationTables:
    """Keep what depends on the calibration alone; the matrices are (1, 3, 4), for the input."""

    fit: ImageFit
    pixel_from_velo: NDArray[np.float32]
    velo_from_pixel: NDArray[np.float32]


def calibration_tables(
    camera: CameraModel, cam_from_velo: NDArray[np.float64], image_size: tuple[int, int]
) -> CalibrationTables:
    """Compute the calibration inputs in float64 and round once, at the end, to float32.

    Raises CalibrationError where the projection cannot be inverted or is beyond all measure.
    """
    fit = fit_camera(camera, image_size)
    forward = pixel_from_velo(fit.camera_in, cam_from_velo)
    matrices = forward, velo_from_pixel(forward)
    if not all(np.abs(matrix).max() <= MAX_COEFFICIENT for matrix in matrices):
        raise CalibrationError(
            f'expected coefficients up to {MAX_COEFFICIENT:g} between pixels and metres, found '
            f'{camera.projection.tolist()} with the pose {np.asarray(cam_from_velo).tolist()}'
        )
    return CalibrationTables(fit, _as_input(matrices[0]), _as_input(matrices[1]))


class Preprocessor:
    """Build the network's inputs from frames; tables are cached by the calibration's value."""

    def __init__(self, image_size: tuple[int, int], semantic_prior: bool = False) -> None:
        """Take the model's (H_in, W_in) and whether it takes classes from outside."""
        self.image_size = image_size
        self.semantic_prior = semantic_prior
        self._tables: OrderedDict[tuple[bytes, bytes], CalibrationTables] = OrderedDict()
        self._no_depth = np.zeros((1, *image_size), dtype=np.float32)
        self._no_depth.flags.writeable = False
        cells = (1, *(size // CELL_PX for size in image_size))
        self._no_classes = np.zeros(cells, dtype=np.uint8)
        self._no_classes.flags.writeable = False

    @classmethod
    def of(cls, manifest: ModelManifest) -> Preprocessor:
        """Return the preprocessor of a model."""
        return cls(manifest.image_size, manifest.takes_semantic_prior)

    def __call__(self, frame: CameraFrame) -> Arrays:
        """Return the inputs of the engine contract, C-contiguous.

        image uint8 (1, H, W, 3); depth_prior float32 (1, H, W) m, unknown everywhere (0) for a
        frame without depth; pixel_from_velo and velo_from_pixel float32 (1, 3, 4); for a model
        that takes it semantic_prior uint8 (1, H/4, W/4), all 0 for a frame without classes.
        Raises FrameError for classes that the model has no input for.
        """
        tables = self.tables(frame.camera, frame.cam_from_velo)
        depth = self._depth_prior(tables.fit, frame)
        arrays: Arrays = {
            IMAGE: tables.fit.apply(frame.image)[None],
            DEPTH_PRIOR: depth,
            PIXEL_FROM_VELO: tables.pixel_from_velo,
            VELO_FROM_PIXEL: tables.velo_from_pixel,
        }
        if self.semantic_prior:
            arrays[SEMANTIC_PRIOR] = self._semantic_prior(tables.fit, frame)
        elif frame.classes is not None:
            raise FrameError(
                'the frame has classes, but the model has no input semantic_prior for them: leave '
                'them out, or export a model whose config says semantic_prior: true'
            )
        return arrays

    def _semantic_prior(self, fit: ImageFit, frame: CameraFrame) -> NDArray[np.uint8]:
        return (
            self._no_classes if frame.classes is None else fit.apply_classes(frame.classes)[None]
        )

    def _depth_prior(self, fit: ImageFit, frame: CameraFrame) -> NDArray[np.float32]:
        return self._no_depth if frame.depth_m is None else fit.apply_depth(frame.depth_m)[None]

    def tables(self, camera: CameraModel, cam_from_velo: NDArray[np.float64]) -> CalibrationTables:
        """Return the tables of this calibration, computed once per value."""
        key = (camera.key, cam_from_velo.tobytes())
        found = self._tables.get(key)
        if found is None:
            found = calibration_tables(camera, cam_from_velo, self.image_size)
            self._tables[key] = found
            while len(self._tables) > CACHED_CALIBRATIONS:
                self._tables.popitem(last=False)
        self._tables.move_to_end(key)
        return found


def majority_of_cells(classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the class of most pixels of each cell, (H, W) to (H/4, W/4) uint8 train ids.

    The lowest id wins ties; 0, unknown, where fewer than half of the pixels are known.
    """
    height, width = (size // CELL_PX for size in classes.shape)
    cell = np.arange(height * width, dtype=np.int64).reshape(height, 1, width, 1)
    pixels = classes.reshape(height, CELL_PX, width, CELL_PX)
    counts = np.bincount(
        (cell * NUM_CLASSES + pixels).ravel(), minlength=height * width * NUM_CLASSES
    ).reshape(height, width, NUM_CLASSES)
    most = counts[..., 1:].argmax(-1) + 1
    known = CELL_PX**2 - counts[..., 0] >= MIN_KNOWN_SHARE * CELL_PX**2
    return np.where(known, most, 0).astype(np.uint8)


def _as_input(matrix: NDArray[np.float64]) -> NDArray[np.float32]:
    rounded = matrix.astype(np.float32)[None]
    rounded.flags.writeable = False  # shared by every frame of this calibration
    return rounded


def _nearest(index: NDArray[np.int64], source: int, scaled: int) -> NDArray[np.int64]:
    # Half-pixel aware: the source pixel under the centre of target i, (i + 0.5) * source / scaled.
    return np.minimum((2 * index + 1) * source // (2 * scaled), source - 1)
