"""Which voxels a viewer wants to see: by distance, probability and class."""

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
    """A choice of voxels. max_range_m: horizontal, from the origin of the grid's frame."""

    max_range_m: float = float('inf')
    min_probability: float = 0.0
    classes: str = ALL_CLASSES

    def __call__(self, occupancy: Occupancy) -> Occupancy:
        """Return the occupancy with every other voxel empty; the same object where all are shown.

        Raises ConfigError for an unknown class.
        """
        table = _class_table(self.classes)
        near = _near(occupancy.grid, self.max_range_m)
        if self.min_probability <= 0 and table.all() and near.all():
            return occupancy
        hidden = ~table.take(occupancy.labels) | ~near[..., None]
        hidden |= occupancy.probability < np.float32(255 * self.min_probability)
        return replace(occupancy, labels=np.where(hidden, np.uint8(EMPTY), occupancy.labels))


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
