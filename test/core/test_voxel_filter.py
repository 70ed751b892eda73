"""The choice of voxels to show."""

import numpy as np
import pytest

from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.frames import Occupancy
from cigocc_ros.core.grid import VoxelGrid
from cigocc_ros.core.labels import CLASS_NAMES
from cigocc_ros.core.voxel_filter import ShownVoxels, checked_classes

GRID = VoxelGrid((0.0, -2.0, -1.0), (1.0, 1.0, 1.0), (4, 4, 2))
CAR, ROAD = CLASS_NAMES.index('car'), CLASS_NAMES.index('road')


@pytest.fixture
def occupancy() -> Occupancy:
    labels = np.zeros(GRID.shape, np.uint8)
    labels[0, 2, 0], labels[3, 2, 1] = ROAD, CAR
    probability = np.where(labels == CAR, 102, np.where(labels == ROAD, 255, 0))
    return Occupancy(labels, probability.astype(np.uint8), GRID, 7, 'velo')


def shown_labels(occupancy: Occupancy, **choice) -> set[int]:
    return set(np.unique(ShownVoxels(**choice)(occupancy).labels)) - {0}


def test_everything_is_the_same_object(occupancy):
    assert ShownVoxels()(occupancy) is occupancy
    assert ShownVoxels(max_range_m=200.0)(occupancy) is occupancy


def test_range_is_horizontal_from_the_origin_to_the_centre(occupancy):
    assert shown_labels(occupancy, max_range_m=3.53) == {ROAD}  # the car stands at 3.54 m
    assert shown_labels(occupancy, max_range_m=3.54) == {ROAD, CAR}
    assert shown_labels(occupancy, max_range_m=0.5) == set()


def test_probability_is_at_least(occupancy):
    assert shown_labels(occupancy, min_probability=0.4) == {ROAD, CAR}
    assert shown_labels(occupancy, min_probability=0.41) == {ROAD}


def test_classes_by_name(occupancy):
    assert shown_labels(occupancy, classes='car') == {CAR}
    assert shown_labels(occupancy, classes='pole, car') == {CAR}
    assert shown_labels(occupancy, classes='all') == {ROAD, CAR}


def test_surfaces_are_those_of_the_whole_map():
    """Hiding a class must not turn what lies under it into a surface."""
    grid = VoxelGrid((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (5, 5, 5))
    labels = np.full(grid.shape, ROAD, np.uint8)
    labels[:, :, 3], labels[:, :, 4] = CAR, 0
    solid = Occupancy(labels, np.full(grid.shape, 255, np.uint8), grid, 7, 'velo')
    shown = ShownVoxels(surface_only=True)(solid).labels
    inside = np.zeros(grid.shape, bool)
    inside[1:4, 1:4, 1:3] = True
    assert not shown[inside].any() and (shown[~inside] == labels[~inside]).all()
    road = ShownVoxels(classes='road', surface_only=True)(solid).labels
    assert not road[inside].any() and not road[:, :, 3].any() and road[0, :, :3].all()
    assert (ShownVoxels(classes='road')(solid).labels[inside] == ROAD).all()


def test_what_is_kept_keeps_stamp_frame_and_probability(occupancy):
    kept = ShownVoxels(classes='car')(occupancy)
    assert (kept.stamp_ns, kept.frame_id) == (7, 'velo')
    assert kept.probability is occupancy.probability
    assert occupancy.labels.any() and kept.labels is not occupancy.labels


@pytest.mark.parametrize('text', ['cars', '', 'car,', 'empty', 'all,car'])
def test_unknown_classes_are_refused_with_the_names(text):
    with pytest.raises(ConfigError, match='traffic-sign, comma separated; found'):
        checked_classes(text)
