"""Postprocess: outputs become an occupancy, coarse labels fill a finer grid."""

import numpy as np
import pytest

from cigocc_ros.core.errors import FrameError
from cigocc_ros.core.frames import Occupancy, labels_on_grid
from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID, VoxelGrid
from cigocc_ros.core.labels import coarsen_labels
from cigocc_ros.runtime.postprocess import occupancy_from_outputs


def make_occupancy(shape):
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 20, shape, dtype=np.uint8)
    grid = SEMANTIC_KITTI_GRID.with_shape(shape)
    return Occupancy(labels, labels, grid, 1, 'velo_link')


def test_a_label_covers_the_same_metres_on_the_finer_grid():
    occupancy = make_occupancy((32, 32, 8))
    fine = labels_on_grid(occupancy, SEMANTIC_KITTI_GRID)
    assert fine.shape == (256, 256, 32) and fine.dtype == np.uint8
    index, inside = occupancy.grid.index_of(SEMANTIC_KITTI_GRID.centers_m().reshape(-1, 3))
    assert inside.all()
    np.testing.assert_array_equal(fine.ravel(), occupancy.labels[tuple(index.T)])
    np.testing.assert_array_equal(coarsen_labels(fine, (8, 8, 4)), occupancy.labels)


def test_same_grid_changes_nothing():
    occupancy = make_occupancy((64, 64, 16))
    np.testing.assert_array_equal(labels_on_grid(occupancy, occupancy.grid), occupancy.labels)


@pytest.mark.parametrize(
    'grid',
    [
        SEMANTIC_KITTI_GRID.with_shape((100, 64, 16)),
        SEMANTIC_KITTI_GRID.with_shape((32, 32, 8)),
        VoxelGrid((1.0, -25.6, -2.0), (0.2, 0.2, 0.2), (256, 256, 32)),
    ],
)
def test_grids_that_do_not_refine_are_refused(grid):
    with pytest.raises(FrameError, match='refines'):
        labels_on_grid(make_occupancy((64, 64, 16)), grid)


def test_outputs_of_another_shape_are_refused(frame):
    arrays = np.zeros((1, 16, 16, 4), np.uint8)
    outputs = {'labels': arrays, 'occupied_probability': arrays}
    with pytest.raises(FrameError, match='labels must be uint8'):
        occupancy_from_outputs(outputs, SEMANTIC_KITTI_GRID, frame)


def test_labels_beyond_the_classes_are_refused(frame):
    grid = SEMANTIC_KITTI_GRID.with_shape((16, 16, 4))
    arrays = np.full((1, 16, 16, 4), 20, np.uint8)
    outputs = {'labels': arrays, 'occupied_probability': arrays}
    with pytest.raises(FrameError, match=r'0\.\.19'):
        occupancy_from_outputs(outputs, grid, frame)
