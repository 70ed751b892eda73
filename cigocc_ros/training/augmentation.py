"""Vary training samples: exact mirror, colour jitter, depth priors of every quality (numpy)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.prior import DEPTH, NONE, PRIORS, Prior
from cigocc_ros.core.projection import velo_from_pixel
from cigocc_ros.training.config import AugmentConfig
from cigocc_ros.training.image_targets import ImageTargets

MAX_RELATIVE_NOISE = 0.03
MAX_HOLES = 6
LARGEST_HOLE = 0.3
"""Edge of a hole in the depth prior, relative to the image."""
SPARSEST_PRIOR = 0.05
EDGE_BLOCK, MOVED_SHARE, MAX_WRONG_SHARE = 8, 0.5, 0.05
"""Of classes from outside: cells of a block, share of blocks that move, share of wrong cells."""


class Sample(NamedTuple):
    """One frame at the sizes of the model."""

    image: NDArray[np.uint8]
    """(H, W, 3) rgb."""
    depth_prior: NDArray[np.float32]
    """(H, W) metres, 0 = unknown."""
    pixel_from_velo: NDArray[np.float32]
    """(3, 4) of that image."""
    velo_from_pixel: NDArray[np.float32]
    """(3, 4), its inverse [A | c]."""
    labels: NDArray[np.uint8]
    """(X, Y, Z) train ids on the output grid, 255 = unknown."""
    query_labels: NDArray[np.uint8]
    """(Qx, Qy, Qz) train ids on the query grid, 255 = unknown."""
    masks: NDArray[np.uint8]
    """(19, H/4, W/4) 0 or 1: the stride-4 cell shows class 1..19."""
    mask_valid: NDArray[np.bool_]
    """(19, H/4, W/4) it is known whether the cell shows class 1..19."""
    depth: NDArray[np.float32]
    """(H/4, W/4) measured metres, 0 = unknown."""
    semantic_prior: NDArray[np.uint8]
    """(H/4, W/4) train ids that a network outside says, 0 = unknown."""
    teacher_features: NDArray[np.float32] | None = None
    """(Csem, H/4, W/4) of the teacher, NaN where it says nothing; None without a teacher."""
    extra: ImageTargets | None = None
    """What else the image teaches, where the stage learns from images alone."""


def flip_projection(pixel_from_velo: NDArray[Any], width: int) -> NDArray[np.float64]:
    """Return the (3, 4) projection of the mirrored image in the mirrored world (y -> -y).

    u' = width - 1 - u; the same as flipping the camera and conjugating cam_from_velo.
    """
    mirror_image = np.array([[-1.0, 0, width - 1], [0, 1, 0], [0, 0, 1]])
    mirror_world = np.diag([1.0, -1, 1, 1])
    return mirror_image @ np.asarray(pixel_from_velo, dtype=np.float64) @ mirror_world


def flip_sample(sample: Sample) -> Sample:
    """Mirror everything: images along columns, voxels along y, and the calibration with them.

    Exact because the grid is symmetric about y = 0. Applied twice it is the identity.
    """
    pixel = flip_projection(sample.pixel_from_velo, sample.image.shape[1])
    return Sample(
        image=_flipped(sample.image, 1),
        depth_prior=_flipped(sample.depth_prior, 1),
        pixel_from_velo=pixel.astype(np.float32),
        velo_from_pixel=velo_from_pixel(pixel).astype(np.float32),
        labels=_flipped(sample.labels, 1),
        query_labels=_flipped(sample.query_labels, 1),
        masks=_flipped(sample.masks, 2),
        mask_valid=_flipped(sample.mask_valid, 2),
        depth=_flipped(sample.depth, 1),
        semantic_prior=_flipped(sample.semantic_prior, 1),
        teacher_features=(
            None if sample.teacher_features is None else _flipped(sample.teacher_features, 2)
        ),
        extra=None if sample.extra is None else _flipped_targets(sample.extra),
    )


def _flipped_targets(targets: ImageTargets) -> ImageTargets:
    """Mirror every map along its columns, which are its last axis."""
    return ImageTargets(*(_flipped(one, one.ndim - 1) for one in targets))


def jitter_colors(
    image: NDArray[np.uint8], strength: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Scale brightness, contrast and saturation of (H, W, 3) uint8 by up to 1 +- strength."""
    import cv2

    brightness, contrast, saturation = 1 + strength * rng.uniform(-1, 1, 3)
    levels = np.arange(256, dtype=np.float32)
    mean = float(image[::8, ::8].mean())
    curve = (levels * brightness - mean) * contrast + mean
    changed = cv2.LUT(image, np.clip(curve, 0, 255).astype(np.uint8))
    grey = cv2.cvtColor(cv2.cvtColor(changed, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    mixed = cv2.addWeighted(changed, saturation, grey, 1 - saturation, 0)
    return np.asarray(mixed, dtype=np.uint8)


def degrade_depth(depth_m: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Give measured depth (H, W) relative noise, rectangular holes and a random density."""
    height, width = depth_m.shape
    sigma = rng.uniform(0, MAX_RELATIVE_NOISE)
    noise = rng.standard_normal(depth_m.shape, dtype=np.float32)
    prior: NDArray[np.float32] = depth_m * np.exp(np.float32(sigma) * noise)
    for _ in range(int(rng.integers(0, MAX_HOLES + 1))):
        rows, columns = (rng.uniform(0, LARGEST_HOLE, 2) * (height, width)).astype(int)
        top, left = rng.integers(0, height - rows), rng.integers(0, width - columns)
        prior[top : top + rows, left : left + columns] = 0
    density = rng.uniform(SPARSEST_PRIOR, 1)
    prior[rng.random(depth_m.shape, dtype=np.float32) > density] = 0
    return prior


def degrade_classes(
    semantic_prior: NDArray[np.uint8], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Give classes (h, w) holes, edges that are off by a cell, and single wrong cells.

    A network that saw only exact ones would trust those of another network too much.
    """
    height, width = semantic_prior.shape
    prior = semantic_prior.copy()
    for _ in range(int(rng.integers(0, MAX_HOLES + 1))):
        rows, columns = (rng.uniform(0, LARGEST_HOLE, 2) * (height, width)).astype(int)
        top, left = rng.integers(0, height - rows), rng.integers(0, width - columns)
        prior[top : top + rows, left : left + columns] = 0
    blocks = rng.random((height // EDGE_BLOCK + 1, width // EDGE_BLOCK + 1)) < MOVED_SHARE
    moved = blocks.repeat(EDGE_BLOCK, 0).repeat(EDGE_BLOCK, 1)[:height, :width]
    shifted = np.roll(prior, rng.integers(-1, 2, 2).tolist(), axis=(0, 1))
    prior = np.where(moved, shifted, prior)
    wrong = rng.random(prior.shape) < rng.uniform(0, MAX_WRONG_SHARE)
    other = prior.ravel()[rng.integers(0, prior.size, prior.shape)]
    return np.where(wrong, other, prior)


def draw_prior(
    available: Mapping[Prior, NDArray[np.float32]],
    config: AugmentConfig,
    shape: tuple[int, int],
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Return a depth prior (H, W) metres: none is all 0, measured depth is degraded.

    A kind that is not `available` gives its fraction to the others.
    """
    return prior_of_kind(draw_kind(available, config, rng), available, shape, rng)


def prior_of_kind(
    kind: Prior,
    available: Mapping[Prior, NDArray[np.float32]],
    shape: tuple[int, int],
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Return the depth prior (H, W) metres of a kind: none is all 0, measured is degraded."""
    if kind == NONE:
        return np.zeros(shape, dtype=np.float32)
    return degrade_depth(available[kind], rng) if kind == DEPTH else available[kind]


def draw_kind(
    available: Collection[Prior], config: AugmentConfig, rng: np.random.Generator
) -> Prior:
    """Return which kind of prior a sample gets, none where none of those asked for is there."""
    chances = np.array(
        [
            fraction * (kind == NONE or kind in available)
            for kind, fraction in config.prior_fractions.items()
        ]
    )
    if chances.sum() <= 0:
        return NONE
    return PRIORS[int(rng.choice(len(chances), p=chances / chances.sum()))]


def _flipped(array: NDArray[Any], axis: int) -> NDArray[Any]:
    return np.ascontiguousarray(np.flip(array, axis))
