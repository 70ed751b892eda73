"""Vary the image of a sample: another lens and aim with the calibration that fits, worse pictures.

A few places that are seen hundreds of times are learnt by heart unless no two pictures of them are
the same. All of it works on a prepared frame, at the size of the model.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.arrays import Arrays, Floats
from cigocc_ros.core.config import FEATURE_STRIDE
from cigocc_ros.core.labels import IGNORE, NUM_CLASSES
from cigocc_ros.core.opencv import import_cv2
from cigocc_ros.training.cells import cell_depth, cell_masks
from cigocc_ros.training.config import AugmentConfig
from cigocc_ros.training.image_targets import unpacked

DEPTH_MAPS = frozenset({'measured', 'stereo', 'depth_stereo', 'dense'})
"""Arrays of a prepared frame that are metres of pixels."""
MASKS = frozenset({'masks', 'mask_valid', 'weak_masks', 'weak_valid'})
"""Those that are bits of cells."""
MIN_BLUR_PX = 0.05
"""A Gaussian of a smaller sigma changes no grey level."""
MAX_ERASED, ASPECT = 4, 2.0
"""Most rectangles that are hidden at once, and their largest ratio of height to width."""


class Move(NamedTuple):
    """Pixel (u, v) becomes (scale u + right, scale v + down): a lens, a crop, a shift at once."""

    scale: float
    right: float
    down: float

    @property
    def matrix(self) -> Floats:
        """The same as (3, 3) of homogeneous pixels."""
        return np.array(
            [[self.scale, 0, self.right], [0, self.scale, self.down], [0, 0, 1]], dtype=np.float64
        )


def draw_move(config: AugmentConfig, size: tuple[int, int], rng: np.random.Generator) -> Move:
    """Return how the picture of (H, W) is moved: a focal length, then a crop, then a shift.

    The crop is brought back to the full size, wherever in the picture it lies.
    """
    zoom = (1 + config.zoom) ** rng.uniform(-1, 1)
    kept = 1 - rng.uniform(0, config.crop) if config.crop > 0 else 1.0
    offsets = []
    for length in (size[1], size[0]):
        centre = (length - 1) / 2
        zoomed = centre * (1 - zoom)  # about the middle of the picture
        first = rng.uniform(0, length * (1 - kept))  # edge of the part that is kept
        cropped = (zoomed + 0.5 - first) / kept - 0.5
        offsets.append(cropped + rng.uniform(-1, 1) * config.shift * length)
    return Move(zoom / kept, *offsets)


def move_arrays(arrays: Arrays, move: Move) -> Arrays:
    """Return a prepared frame as the moved camera sees it; the volumes stay where they are.

    Colours are interpolated. Depth and classes, which have edges, are those of the nearest pixel,
    and the cells are filled from them again; what only cells know, masks of a frame with a volume
    and what other networks said, is that of the nearest cell. What the picture does not show is
    black and unknown.
    """
    cv2 = import_cv2('moving images')
    height, width = arrays['image'].shape[:2]
    pixels, cells = _Source(move, (height, width), 1), _Source(move, (height, width))
    moved = dict(arrays)
    moved['image'] = cv2.warpAffine(
        arrays['image'], move.matrix[:2], (width, height), flags=cv2.INTER_LINEAR
    )
    moved['pixel_from_velo'] = move.matrix @ arrays['pixel_from_velo']
    for name in DEPTH_MAPS & arrays.keys():
        moved[name] = pixels.of(arrays[name], 0)
    moved['depth'] = cell_depth(moved['measured'].astype(np.float32)).astype(np.float16)
    if 'semantic_prior' in arrays:
        moved['semantic_prior'] = cells.of(arrays['semantic_prior'], 0)
    shape = (NUM_CLASSES - 1, height // FEATURE_STRIDE, width // FEATURE_STRIDE)
    for name in MASKS & arrays.keys():
        moved[name] = np.packbits(cells.of(unpacked(arrays[name], shape), 0))
    if 'classes' in arrays:
        moved['classes'] = pixels.of(arrays['classes'], IGNORE)
        masks, valid = cell_masks(moved['classes'], bool(arrays['classes_are_sparse']))
        moved |= {'masks': np.packbits(masks), 'mask_valid': np.packbits(valid)}
    if 'teacher_grid' in arrays:
        moved['teacher_rows'] = cells.along(arrays['teacher_rows'], 0)
        moved['teacher_columns'] = cells.along(arrays['teacher_columns'], 1)
    return moved


class _Source:
    """Which pixel, or cell of `stride` pixels, each one of the moved picture shows."""

    def __init__(self, move: Move, size: tuple[int, int], stride: int = FEATURE_STRIDE) -> None:
        self.index, self.inside = [], []
        for length, offset in zip(size, (move.down, move.right), strict=True):
            count = length // stride
            centre = stride * np.arange(count) + (stride - 1) / 2
            source = np.floor(((centre - offset) / move.scale + 0.5) / stride).astype(np.int64)
            self.inside.append((source >= 0) & (source < count))
            self.index.append(np.clip(source, 0, count - 1))

    def of(self, values: NDArray[Any], unknown: Any) -> NDArray[Any]:
        """Return the moved map (..., h, w), `unknown` where it shows nothing."""
        (row, column), (known_row, known_column) = self.index, self.inside
        moved = values.take(row, axis=-2).take(column, axis=-1)
        moved[..., ~known_row, :] = unknown
        moved[..., ~known_column] = unknown
        return moved

    def along(self, weights: NDArray[Any], axis: int) -> NDArray[Any]:
        """Return what belongs to each row (0) or column (1), all 0 where it shows nothing."""
        moved = weights.take(self.index[axis], axis=0)
        moved[~self.inside[axis]] = 0
        return moved


def vary_image(
    image: NDArray[np.uint8], config: AugmentConfig, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Blur (H, W, 3) uint8, add noise and hide rectangles, as far as `config` asks for it."""
    if config.blur > 0:
        image = blurred(image, rng.uniform(0, config.blur))
    if config.noise > 0:
        image = noisy(image, rng.uniform(0, config.noise), rng)
    return erased(image, rng.uniform(0, config.erase), rng) if config.erase > 0 else image


def blurred(image: NDArray[np.uint8], sigma_px: float) -> NDArray[np.uint8]:
    """Return the image under a Gaussian."""
    if sigma_px < MIN_BLUR_PX:
        return image
    cv2 = import_cv2('blurring images')
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma_px), dtype=np.uint8)


def noisy(image: NDArray[np.uint8], sigma: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return the image with noise of `sigma` grey levels, of each pixel and colour its own."""
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    levels = np.rint(image + np.float32(sigma) * noise)
    return np.clip(levels, 0, 255).astype(np.uint8)


def erased(image: NDArray[np.uint8], share: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return the image with rectangles of its mean colour, which hide at most `share` of it."""
    image = image.copy()
    height, width = image.shape[:2]
    mean = np.rint(image.mean((0, 1))).astype(np.uint8)
    count = int(rng.integers(1, MAX_ERASED + 1))
    for _ in range(count):
        aspect = ASPECT ** rng.uniform(-1, 1)
        rows = min(height, int(np.sqrt(share / count * height * width * aspect)))
        columns = min(width, int(np.sqrt(share / count * height * width / aspect)))
        top, left = rng.integers(0, height - rows + 1), rng.integers(0, width - columns + 1)
        image[top : top + rows, left : left + columns] = mean
    return image
