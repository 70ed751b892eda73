"""Colours of surfaces, sky and light: value noise at several scales, no image files."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.data.synthetic.mesh import ASPHALT, BARK, FOLIAGE, GROUND, PAINT, PLAIN, WALL

Array = NDArray[np.float32]
_SCALES: dict[int, tuple[tuple[float, float], ...]] = {
    # surface -> (noise cells per metre, strength)
    PLAIN: ((1.5, 0.1), (8.0, 0.12), (30.0, 0.1)),
    GROUND: ((0.3, 0.25), (2.0, 0.2), (12.0, 0.3), (45.0, 0.2)),
    WALL: ((0.4, 0.12), (4.0, 0.1), (18.0, 0.12), (50.0, 0.08)),
    FOLIAGE: ((1.0, 0.3), (5.0, 0.45), (14.0, 0.5)),
    PAINT: ((0.8, 0.05), (10.0, 0.04)),
    BARK: ((4.0, 0.3), (25.0, 0.4)),
    ASPHALT: ((0.2, 0.12), (1.5, 0.1), (10.0, 0.12), (40.0, 0.14)),
}


@dataclass(frozen=True)
class Light:
    """Sun, sky and camera response of one sequence."""

    sun: NDArray[np.float32]
    sun_rgb: NDArray[np.float32]
    sky_rgb: NDArray[np.float32]
    horizon_rgb: NDArray[np.float32]
    haze_per_m: float
    clouds: float
    exposure: float
    gain_rgb: NDArray[np.float32]
    noise: float
    blur_px: float
    seed: int

    @classmethod
    def drawn(cls, random: np.random.Generator) -> Light:
        """Draw weather, daytime and camera response."""
        azimuth, elevation = random.uniform(0, 2 * np.pi), random.uniform(0.25, 1.2)
        sun = [
            np.cos(azimuth) * np.cos(elevation),
            np.sin(azimuth) * np.cos(elevation),
            np.sin(elevation),
        ]
        overcast = random.random() ** 1.5
        warm = np.array([1.0, 0.94, 0.85]) * (1 - overcast) * random.uniform(1.6, 2.6)
        blue = (
            np.array([0.42, 0.58, 0.85]) * (1 - overcast) + np.array([0.8, 0.82, 0.85]) * overcast
        )
        return cls(
            np.array(sun, np.float32),
            warm.astype(np.float32),
            (blue * random.uniform(0.55, 1.0)).astype(np.float32),
            np.array([0.85, 0.88, 0.92], np.float32) * random.uniform(0.8, 1.1),
            random.uniform(0.0002, 0.0025),
            random.random(),
            random.uniform(0.4, 1.1),
            (1 + 0.06 * random.normal(size=3)).astype(np.float32),
            random.uniform(0.004, 0.02),
            random.uniform(0.3, 0.8),
            int(random.integers(1 << 30)),
        )

    def sky(self, directions: Array) -> Array:
        """Return the colour of the sky in unit directions (N, 3)."""
        up = np.clip(directions[:, 2:], 0, 1)
        base = self.horizon_rgb + (self.sky_rgb - self.horizon_rgb) * np.sqrt(up)
        plane = directions / np.maximum(directions[:, 2:], 0.05)
        cloud = sum(value_noise(plane * scale, self.seed) / scale for scale in (1.0, 2.0, 4.0))
        share = np.clip((cloud[:, None] - 1.2 + 0.6 * self.clouds) * 2, 0, 0.9)
        result: Array = (base * (1 - share) + self.horizon_rgb * share).astype(np.float32)
        return result


def value_noise(points: NDArray[np.floating], seed: int) -> Array:
    """Return trilinear value noise in 0..1 at points (N, 3), one lattice cell per unit."""
    cell = np.floor(points).astype(np.int64)
    f = (points - cell).astype(np.float32)
    f = f * f * (3 - 2 * f)
    total = np.zeros(len(points), np.float32)
    for corner in range(8):
        step = np.array([corner & 1, corner >> 1 & 1, corner >> 2])
        weight = np.prod(np.where(step, f, 1 - f), axis=1)
        total += weight * _hashed(cell + step, seed)
    return total


def albedo(
    points: NDArray[np.floating],
    surfaces: NDArray[np.uint8],
    colours: Array,
    normals: Array,
    seed: int,
) -> Array:
    """Return the colour (N, 3) of surface points (N, 3), metres."""
    result = colours.copy()
    for surface, scales in _SCALES.items():
        chosen = np.flatnonzero(surfaces == surface)
        if len(chosen) == 0:
            continue
        factor = np.ones(len(chosen), np.float32)
        for scale, strength in scales:
            factor += strength * 2 * (value_noise(points[chosen] * scale, seed + surface) - 0.5)
        result[chosen] *= np.clip(factor, 0.15, 2.5)[:, None]
    _windows(result, points, surfaces, normals, seed)
    return np.clip(result, 0.01, 1.0)


def _windows(
    colours: Array,
    points: NDArray[np.floating],
    surfaces: NDArray[np.uint8],
    normals: Array,
    seed: int,
) -> None:
    """Darken window panes on upright walls, in a grid of storeys."""
    wall = np.flatnonzero(
        (surfaces == WALL) & (np.abs(normals[:, 2]) < 0.3) & (points[:, 2] > 0.6)
    )
    if len(wall) == 0:
        return
    p, n = points[wall], normals[wall]
    along = p[:, 0] * -n[:, 1] + p[:, 1] * n[:, 0]
    column, storey = along / 2.6, (p[:, 2] - 0.6) / 2.7
    fraction = np.stack([column % 1, storey % 1])
    pane = (fraction[0] > 0.3) & (fraction[0] < 0.72) & (fraction[1] > 0.15) & (fraction[1] < 0.65)
    frame = pane & (
        (np.abs(fraction[0] - 0.51) < 0.02) | (fraction[0] < 0.33) | (fraction[0] > 0.69)
    )
    cells = np.stack([np.floor(column), np.floor(storey), np.zeros(len(wall))], axis=1).astype(
        np.int64
    )
    exists = _hashed(cells, seed + 99) < 0.8
    colours[wall[pane & exists]] = (0.08, 0.1, 0.13)
    colours[wall[frame & exists]] = (0.6, 0.6, 0.58)


def _hashed(cell: NDArray[np.int64], seed: int) -> Array:
    """Return a reproducible number in 0..1 for each integer cell (N, 3)."""
    mixed = cell.astype(np.uint32) * np.array([73856093, 19349663, 83492791], np.uint32)
    code = mixed[:, 0] ^ mixed[:, 1] ^ mixed[:, 2] ^ np.uint32(seed * 2654435761 % (1 << 32))
    code = (code ^ (code >> np.uint32(15))) * np.uint32(2246822519)
    code = (code ^ (code >> np.uint32(13))) * np.uint32(3266489917)
    return ((code ^ (code >> np.uint32(16))) & np.uint32(0xFFFFFF)).astype(np.float32) / 0xFFFFFF
