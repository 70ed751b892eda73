"""Columns of voxels as costs for planners."""

import numpy as np

from cigocc_ros.core.birds_eye import DRIVABLE, OBSTACLE, OTHER_GROUND, UNKNOWN, birds_eye
from cigocc_ros.core.frames import Occupancy
from cigocc_ros.core.grid import VoxelGrid
from cigocc_ros.core.labels import CLASS_NAMES

GRID = VoxelGrid((0.0, 0.0, -2.0), (0.4, 0.4, 0.4), (6, 2, 16))
GROUND = 1


def seen(*columns: dict[int, str]) -> list[int]:
    """Return the cost of columns given as {height index: class}, all others being road."""
    labels = np.zeros(GRID.shape, np.uint8)
    labels[:, :, GROUND] = CLASS_NAMES.index('road')
    for x, column in enumerate(columns):
        labels[x, 0] = 0
        for z, name in column.items():
            labels[x, 0, z] = CLASS_NAMES.index(name)
    cost = birds_eye(Occupancy(labels, np.zeros_like(labels), GRID, 0, 'velo'))
    assert cost.shape == (6, 2) and cost.dtype == np.int8
    assert (cost[:, 1] == DRIVABLE).all()
    return cost[: len(columns), 0].tolist()


def test_ground_by_class():
    columns = {1: 'road'}, {1: 'parking'}, {1: 'sidewalk'}, {1: 'terrain'}, {1: 'other-ground'}
    assert seen(*columns) == [DRIVABLE, DRIVABLE, OTHER_GROUND, OTHER_GROUND, OTHER_GROUND]


def test_nothing_occupied_is_unknown():
    assert seen({}) == [UNKNOWN]


def test_the_highest_ground_decides():
    assert seen({1: 'road', 2: 'sidewalk'}, {1: 'sidewalk', 2: 'road'}) == [OTHER_GROUND, DRIVABLE]


def test_obstacles_on_the_ground_and_above_the_vehicle():
    # 2.5 m are 6.25 voxels of 0.4 m: an obstacle that begins 7 voxels above the road is passed
    low, high = {1: 'road', 7: 'vegetation'}, {1: 'road', 8: 'vegetation'}
    assert seen({1: 'road', 2: 'car'}, low, high) == [OBSTACLE, OBSTACLE, DRIVABLE]


def test_a_column_without_ground_is_measured_from_the_ground_of_the_map():
    assert seen({3: 'building'}, {8: 'vegetation'}, {7: 'pole'}) == [OBSTACLE, UNKNOWN, OBSTACLE]


def test_a_map_without_any_ground_is_measured_from_its_floor():
    labels = np.zeros(GRID.shape, np.uint8)
    labels[0, 0, 2], labels[1, 0, 12] = CLASS_NAMES.index('car'), CLASS_NAMES.index('car')
    cost = birds_eye(Occupancy(labels, np.zeros_like(labels), GRID, 0, 'velo'))
    assert cost[:2, 0].tolist() == [OBSTACLE, UNKNOWN] and (cost[2:] == UNKNOWN).all()
