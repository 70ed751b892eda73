"""What can be seen from where: range images around sensor positions, and looking things up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.arrays import Floats

ELEVATIONS, AZIMUTHS = 180, 540
LOWEST_RAD, HIGHEST_RAD = np.deg2rad(-50.0), np.deg2rad(40.0)


class Castable(Protocol):
    """Something rays can be cast at; returns the distance in lengths of each ray."""

    def __call__(self, origins: Floats, rays: Floats) -> NDArray[np.floating]:
        """Return the distance (N,) to the first surface, inf where there is none."""
        ...


@dataclass(frozen=True)
class RangeImage:
    """The distance to the first surface in every direction around `origin`.

    limit (E, A): the farthest of the four directions around each cell, so that what is seen from
    any of them counts as visible.
    """

    origin: Floats
    limit: NDArray[np.float32]

    @classmethod
    def cast(cls, origin: Floats, surface: Castable) -> RangeImage:
        """Look around from a point (3,)."""
        rays = _directions()
        ranges = surface(np.broadcast_to(origin, rays.shape), rays)
        image = ranges.reshape(ELEVATIONS + 1, AZIMUTHS).astype(np.float32)
        along = np.maximum(image, np.roll(image, -1, axis=1))
        return cls(origin, np.maximum(along[:-1], along[1:]))

    def visible(self, points: Floats, margin_m: NDArray[np.floating] | float) -> NDArray[np.bool_]:
        """Say which points (N, 3) lie no deeper than `margin_m` behind what is seen first."""
        x, y, z = (points - self.origin).astype(np.float32).T
        flat = x * x + y * y
        distance = np.sqrt(flat + z * z)
        azimuth = np.arctan2(y, x) * np.float32(AZIMUTHS / (2 * np.pi))
        column = np.floor(azimuth).astype(np.int32) % AZIMUTHS
        elevation = np.arctan2(z, np.sqrt(flat))
        scale = np.float32(ELEVATIONS / (HIGHEST_RAD - LOWEST_RAD))
        row = np.clip((elevation - LOWEST_RAD) * scale, 0, ELEVATIONS - 1).astype(np.int32)
        result: NDArray[np.bool_] = distance <= self.limit[row, column] + margin_m
        return result


def _directions() -> Floats:
    elevation = np.linspace(LOWEST_RAD, HIGHEST_RAD, ELEVATIONS + 1)[:, None]
    azimuth = (np.arange(AZIMUTHS) * (2 * np.pi / AZIMUTHS))[None]
    x, y = np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth)
    return np.stack(np.broadcast_arrays(x, y, np.sin(elevation)), axis=-1).reshape(-1, 3)
