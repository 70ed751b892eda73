"""The voxel map seen from above, for planners: drivable, other ground, obstacle, unknown."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.frames import Occupancy
from cigocc_ros.core.labels import CLASS_NAMES, EMPTY

UNKNOWN, DRIVABLE, OTHER_GROUND, OBSTACLE = -1, 0, 50, 100
"""Costs of nav_msgs/OccupancyGrid; other ground can be driven on but is not for vehicles."""
CLEARANCE_M = 2.5
"""What begins higher above the ground is passed under: crowns of trees, bridges, signs."""
_DRIVABLE_CLASSES = ('road', 'parking')
_GROUND_CLASSES = (*_DRIVABLE_CLASSES, 'sidewalk', 'other-ground', 'terrain')


def _table(names: tuple[str, ...]) -> NDArray[np.bool_]:
    return np.isin(CLASS_NAMES, names)


_IS_DRIVABLE, _IS_GROUND = _table(_DRIVABLE_CLASSES), _table(_GROUND_CLASSES)
_IS_OBSTACLE = ~_IS_GROUND & (np.arange(len(CLASS_NAMES)) != EMPTY)


def birds_eye(occupancy: Occupancy) -> NDArray[np.int8]:
    """Return the cost of every column, (X, Y) int8.

    A column is an obstacle where a voxel that is no ground begins less than CLEARANCE_M above the
    ground of the column, or, where it has none, of the whole map (the median); it is drivable
    where its highest ground is road or parking. Nothing occupied is unknown: a camera that saw the
    ground free of obstacles has seen the ground.
    """
    labels = occupancy.labels
    ground, blocking = _IS_GROUND.take(labels), _IS_OBSTACLE.take(labels)
    depth = labels.shape[2]
    has_ground = ground.any(axis=2)
    level = depth - 1 - ground[:, :, ::-1].argmax(axis=2)
    usual = int(np.median(level[has_ground])) if has_ground.any() else 0
    level[~has_ground] = usual
    lowest = np.where(blocking.any(axis=2), blocking.argmax(axis=2), depth)
    clearance = CLEARANCE_M / occupancy.grid.voxel_size_m[2]
    top = np.take_along_axis(labels, level[..., None], axis=2)[..., 0]
    cost = np.full(labels.shape[:2], UNKNOWN, np.int8)
    cost[has_ground] = OTHER_GROUND
    cost[has_ground & _IS_DRIVABLE.take(top)] = DRIVABLE
    cost[(lowest < depth) & (lowest - level < clearance)] = OBSTACLE
    return cost
