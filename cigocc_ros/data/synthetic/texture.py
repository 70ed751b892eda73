"""Colours of surfaces: value noise at several scales, joints, bricks, tiles and cracks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.arrays import Floats32
from cigocc_ros.data.synthetic.mesh import (
    ASPHALT,
    BARK,
    BRICK,
    FOLIAGE,
    GRASS,
    GROUND,
    PAINT,
    PAVING,
    PLAIN,
    ROOF,
    WALL,
)
from cigocc_ros.data.synthetic.noise import hashed, value_noise

_OCTAVES: dict[int, tuple[tuple[float, float], ...]] = {
    # surface -> (noise cells per metre, strength)
    PLAIN: ((1.5, 0.12), (8.0, 0.14), (30.0, 0.12)),
    GROUND: ((0.15, 0.25), (1.2, 0.25), (7.0, 0.35), (30.0, 0.35)),
    WALL: ((0.25, 0.14), (2.0, 0.12), (12.0, 0.12), (40.0, 0.12)),
    FOLIAGE: ((0.6, 0.3), (3.0, 0.4), (12.0, 0.7), (35.0, 0.5)),
    PAINT: ((0.8, 0.05), (10.0, 0.05)),
    BARK: ((4.0, 0.3), (18.0, 0.5), (40.0, 0.3)),
    ASPHALT: ((0.08, 0.2), (0.6, 0.14), (5.0, 0.14), (25.0, 0.2), (70.0, 0.2)),
    GRASS: ((0.1, 0.3), (0.8, 0.3), (5.0, 0.4), (25.0, 0.6), (60.0, 0.4)),
    PAVING: ((0.2, 0.15), (3.0, 0.15), (14.0, 0.2), (45.0, 0.2)),
    BRICK: ((0.3, 0.2), (6.0, 0.2), (35.0, 0.2)),
    ROOF: ((0.3, 0.2), (4.0, 0.2), (25.0, 0.25)),
}
_CRACK_WIDTH = 0.012
_PATCH_SHADES = (0.72, 1.22)
_SLAB_M, _BRICK_M, _TILE_M = 0.5, (0.25, 0.085), 0.3


def albedo(
    points: NDArray[np.floating],
    surfaces: NDArray[np.uint8],
    colours: Floats32,
    normals: Floats32,
    footprint_m: Floats32,
    seed: int,
) -> Floats32:
    """Return the colour (N, 3) of surface points (N, 3), metres.

    Detail finer than `footprint_m` (N,), the size of a pixel on the surface, is left out.
    """
    result = colours.copy()
    for surface, octaves in _OCTAVES.items():
        chosen = np.flatnonzero(surfaces == surface)
        if len(chosen) == 0:
            continue
        factor = _fractal(points[chosen], octaves, footprint_m[chosen], seed + surface)
        factor *= _pattern(surface, points[chosen], normals[chosen], footprint_m[chosen], seed)
        result[chosen] *= np.clip(factor, 0.1, 3.0)[:, None]
    for surface in (GRASS, FOLIAGE, ROOF):
        _tint(result, points, surfaces == surface, seed)
    return np.clip(result, 0.004, 1.0)


def _fractal(
    points: NDArray[np.floating],
    octaves: tuple[tuple[float, float], ...],
    footprint: Floats32,
    seed: int,
) -> Floats32:
    factor = np.ones(len(points), np.float32)
    for number, (scale, strength) in enumerate(octaves):
        kept = np.clip(1.6 - 1.2 * footprint * scale, 0, 1)
        near = np.flatnonzero(kept > 0)
        noise = value_noise(points[near] * scale, seed + 31 * number)
        factor[near] += (2 * strength) * kept[near] * (noise - 0.5)
    return factor


def _pattern(
    surface: int,
    points: NDArray[np.floating],
    normals: Floats32,
    footprint: Floats32,
    seed: int,
) -> Floats32:
    if surface == ASPHALT:
        return _tarmac(points, seed)
    if surface == PAVING:
        return _joints(points[:, 0], points[:, 1], (_SLAB_M, _SLAB_M), 0.03, 0.55, footprint)
    if surface in (BRICK, ROOF):
        along = points[:, 0] * -normals[:, 1] + points[:, 1] * normals[:, 0]
        size = _BRICK_M if surface == BRICK else (_TILE_M, 0.2)
        return _joints(along, points[:, 2], size, 0.15, 0.6, footprint)
    return np.ones(len(points), np.float32)


def _tarmac(points: NDArray[np.floating], seed: int) -> Floats32:
    """Return repaired patches and tarred cracks of a road."""
    flat = points * [1.0, 1.0, 0.0]
    cells = np.floor(flat / [9.0, 2.5, 1.0])
    draw = hashed(cells, seed + 7)
    dark, light = _PATCH_SHADES
    factor = np.where(draw < 0.06, dark, np.where(draw > 0.95, light, 1)).astype(np.float32)
    lane = np.abs(value_noise(flat * [0.35, 0.9, 0.0], seed + 8) - 0.5)
    field = value_noise(flat * 0.05, seed + 9)
    cracked = (lane < _CRACK_WIDTH) & (field > 0.55)
    factor[cracked] *= 0.5
    return factor


def _joints(
    u: NDArray[np.floating], v: NDArray[np.floating], size: tuple[float, float], width: float,
    shade: float, footprint: Floats32,
) -> Floats32:  # fmt: skip
    """Return dark joints between stones of `size` metres in running bond, each with its shade."""
    row = np.floor(v / size[1])
    column = u / size[0] + 0.5 * (row % 2)
    joint = (column % 1 < width) | ((v / size[1]) % 1 < width)
    stone = hashed(np.stack([np.floor(column), row, row * 0], axis=1), 5)
    visible = np.clip(1.5 - footprint / min(size), 0, 1)
    detail = np.where(joint, shade - 1, 0.3 * (stone - 0.5))
    factor: Floats32 = (1 + visible * detail).astype(np.float32)
    return factor


def _tint(
    colours: Floats32, points: NDArray[np.floating], mask: NDArray[np.bool_], seed: int
) -> None:
    """Shift hues slowly over space: dry patches, moss, sunburnt leaves."""
    chosen = np.flatnonzero(mask)
    if len(chosen):
        warm = value_noise(points[chosen] * 0.4, seed + 77) - 0.5
        colours[chosen] *= 1 + warm[:, None] * np.array([0.6, 0.15, -0.2], np.float32)
