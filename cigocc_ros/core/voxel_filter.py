"""Which voxels a viewer wants to see: by distance, probability and class, or surfaces alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.frames import Occupancy
from cigocc_ros.core.grid import VoxelGrid
from cigocc_ros.core.labels import CLASS_NAMES, EMPTY, NUM_CLASSES

ALL_CLASSES = 'all'
_NAMES = CLASS_NAMES[EMPTY + 1 :]


@dataclass(frozen=True)
class ShownVoxels:
    """A choice of voxels. max_range_m: horizontal, from the origin of the grid's frame.

    surface_only: those with a free neighbour in the whole map, whatever else is chosen.
    """

    max_range_m: float = float('inf')
    min_probability: float = 0.0
    classes: str = ALL_CLASSES
    surface_only: bool = False

    def __call__(self, occupancy: Occupancy) -> Occupancy:
        """Return the occupancy with every other voxel empty; the same object where all are shown.

        Raises ConfigError for an unknown class.
        """
        table = _class_table(self.classes)
        near = _near(occupancy.grid, self.max_range_m)
        if self.min_probability <= 0 and table.all() and near.all() and not self.surface_only:
            return occupancy
        hidden = ~table.take(occupancy.labels) | ~near[..., None]
        hidden |= occupancy.probability < np.float32(255 * self.min_probability)
        if self.surface_only:
            hidden |= ~surface_voxels(occupancy.occupied)
        return replace(occupancy, labels=np.where(hidden, np.uint8(EMPTY), occupancy.labels))


def surface_voxels(occupied: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the occupied voxels (X, Y, Z) with a free or missing neighbour among their six."""
    # Neighbours are so many bytes away in one row of bytes, whose shifts are the fastest there
    # are; where they wrap around lies at the border, which is surface anyway.
    _, size_y, size_z = occupied.shape
    flat = occupied.ravel()
    buried = flat.copy()
    for step in (1, size_z, size_y * size_z):
        buried[step:] &= flat[:-step]
        buried[:-step] &= flat[step:]
    in_grid = buried.reshape(occupied.shape)
    for axis in range(3):
        np.moveaxis(in_grid, axis, 0)[[0, -1]] = False
    return occupied & ~in_grid


def checked_classes(text: str) -> str:
    """Return `text` where it is 'all' or names of classes, comma separated; raise ConfigError."""
    _class_table(text)
    return text


def _class_table(text: str) -> NDArray[np.bool_]:
    """Return which train ids are shown, (20,)."""
    table = np.full(NUM_CLASSES, text.strip() == ALL_CLASSES)
    table[EMPTY] = True
    if not table.all():
        for name in (part.strip() for part in text.split(',')):
            if name not in _NAMES:
                raise ConfigError(
                    f'expected {ALL_CLASSES!r} or names of {", ".join(_NAMES)}, comma separated; '
                    f'found {name!r}'
                )
            table[CLASS_NAMES.index(name)] = True
    return table


@lru_cache(maxsize=4)
def _near(grid: VoxelGrid, range_m: float) -> NDArray[np.bool_]:
    """Return which columns have their centre within `range_m`, (X, Y)."""
    x, y, _ = grid.axis_centers_m
    near: NDArray[np.bool_] = x[:, None] ** 2 + y**2 <= range_m**2
    return near
