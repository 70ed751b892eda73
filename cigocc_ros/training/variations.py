"""What augmentation does to a sample, drawn on the host; `device_augmentation` does it in batches.

The distributions are those of `augmentation`, which draws and does at once, sample by sample. A
draw of the stream decides everything: a run that resumes sees the same variations.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.prior import DEPTH, PRIORS, Prior
from cigocc_ros.training.augmentation import (
    LARGEST_HOLE,
    MAX_HOLES,
    MAX_RELATIVE_NOISE,
    MAX_WRONG_SHARE,
    SPARSEST_PRIOR,
    draw_kind,
)
from cigocc_ros.training.config import AugmentConfig

DRAWN_HERE = frozenset(
    {'flip', 'jitter', 'semantic_none', 'turned', *(f'prior_{kind}' for kind in PRIORS)}
)
"""Fields of AugmentConfig that a batch on the device follows."""
EVERY_PIXEL = 2.0
"""A density above all random numbers."""
_NO_HOLES = np.zeros((MAX_HOLES, 4), dtype=np.int64)


class Variation(NamedTuple):
    """One sample's."""

    kind: Prior
    """Of the depth prior."""
    flip: bool
    colors: tuple[float, float, float]
    """Factors of brightness, contrast and saturation."""
    depth_sigma: float
    depth_density: float
    """Share of the pixels of the prior that stay."""
    depth_holes: NDArray[np.int64]
    """(MAX_HOLES, 4) top, left, bottom, right; those that are not drawn are empty."""
    class_factor: float
    """1 with the classes from outside, 0 without."""
    class_wrong: float
    """Share of the cells that take the class of another cell."""
    class_shift: tuple[int, int]
    """Cells by which half of the blocks are moved down and to the right."""
    class_holes: NDArray[np.int64]
    noise_seed: int
    """Of what is drawn for each pixel, on the device."""

    @property
    def degrades_depth(self) -> bool:
        """Whether the depth prior is made noisy."""
        return self.kind == DEPTH

    def numbers(self) -> list[float]:
        """Return what the device needs to know, in the order of `Columns`."""
        return [
            float(self.flip),
            *self.colors,
            self.depth_sigma,
            self.depth_density,
            self.class_factor,
            self.class_wrong,
            *self.class_shift,
            *self.depth_holes.ravel().tolist(),
            *self.class_holes.ravel().tolist(),
        ]


class Columns:
    """Where each of `Variation.numbers` stands."""

    FLIP = 0
    COLORS = slice(1, 4)
    DEPTH_SIGMA, DEPTH_DENSITY, CLASS_FACTOR, CLASS_WRONG = 4, 5, 6, 7
    CLASS_SHIFT = slice(8, 10)
    DEPTH_HOLES = slice(10, 10 + 4 * MAX_HOLES)
    CLASS_HOLES = slice(10 + 4 * MAX_HOLES, 10 + 8 * MAX_HOLES)


def require_drawn_here(augment: AugmentConfig) -> None:
    """Raise ConfigError for augmentations that only the samples of loader processes get."""
    asked = [
        field.name
        for field in dataclasses.fields(augment)
        if field.name not in DRAWN_HERE and getattr(augment, field.name)
    ]
    if asked:
        raise ConfigError(
            f'resident: frames on the device are not varied by augment.{asked[0]}; set it to 0, '
            'or resident to false'
        )


def draw_variation(
    available: Collection[Prior],
    has_classes: bool,
    augment: AugmentConfig,
    image_size: tuple[int, int],
    cells: tuple[int, int],
    rng: np.random.Generator,
) -> Variation:
    """Draw what is done to one sample of a frame that has the `available` depth priors."""
    kind = draw_kind(available, augment, rng)
    noisy, said = kind == DEPTH, False
    if has_classes:
        said = bool(rng.random() >= augment.semantic_none)
    brightness, contrast, saturation = 1 + augment.jitter * rng.uniform(-1, 1, 3)
    down, right = rng.integers(-1, 2, 2)
    return Variation(
        kind=kind,
        flip=bool(rng.random() < augment.flip),
        colors=(float(brightness), float(contrast), float(saturation)),
        depth_sigma=float(rng.uniform(0, MAX_RELATIVE_NOISE)) if noisy else 0.0,
        depth_density=float(rng.uniform(SPARSEST_PRIOR, 1)) if noisy else EVERY_PIXEL,
        depth_holes=_draw_holes(image_size, rng) if noisy else _NO_HOLES,
        class_factor=float(said),
        class_wrong=float(rng.uniform(0, MAX_WRONG_SHARE)) if said else 0.0,
        class_shift=(int(down), int(right)) if said else (0, 0),
        class_holes=_draw_holes(cells, rng) if said else _NO_HOLES,
        noise_seed=int(rng.integers(2**62)),
    )


def _draw_holes(size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.int64]:
    height, width = size
    holes = _NO_HOLES.copy()
    for index in range(int(rng.integers(0, MAX_HOLES + 1))):
        rows, columns = (rng.uniform(0, LARGEST_HOLE, 2) * (height, width)).astype(int)
        top, left = rng.integers(0, height - rows), rng.integers(0, width - columns)
        holes[index] = top, left, top + rows, left + columns
    return holes
