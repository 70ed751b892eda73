import numpy as np
import pytest

from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID, VoxelGrid


def test_semantic_kitti_volume_is_the_published_one():
    grid = SEMANTIC_KITTI_GRID
    assert grid.shape == (256, 256, 32)
    assert grid.num_voxels == 2_097_152
    np.testing.assert_allclose(grid.max_m, (51.2, 25.6, 4.4))
    np.testing.assert_allclose(grid.center_of(np.array([0, 0, 0])), (0.1, -25.5, -1.9))


@pytest.mark.parametrize('shape', [(256, 256, 32), (128, 128, 16), (64, 64, 16), (32, 32, 8)])
def test_every_centre_has_its_own_index(shape):
    grid = SEMANTIC_KITTI_GRID.with_shape(shape)
    np.testing.assert_allclose(grid.max_m, SEMANTIC_KITTI_GRID.max_m)
    centers = grid.centers_m().reshape(-1, 3)
    index, inside = grid.index_of(centers)
    assert inside.all()
    flat = np.ravel_multi_index(tuple(index.T), grid.shape)
    np.testing.assert_array_equal(flat, np.arange(grid.num_voxels))


def test_points_outside_or_not_finite_have_no_index():
    grid = SEMANTIC_KITTI_GRID
    points = np.array([[-1e-6, 0, 0], [51.2, 0, 0], [1, 25.6, 0], [1, 0, np.nan], [1, 0, 0]])
    index, inside = grid.index_of(points)
    np.testing.assert_array_equal(inside, [False, False, False, False, True])
    np.testing.assert_array_equal(index[:4], -1)
    np.testing.assert_array_equal(index[4], [5, 128, 10])


def test_indices_into_the_raveled_grid_split_into_axes_with_these_centres():
    grid = VoxelGrid((0, 1, 2), (0.1, 0.2, 0.3), (4, 5, 6))
    flat = np.arange(grid.num_voxels)
    split = grid.split_index(flat)
    np.testing.assert_array_equal(split, np.unravel_index(flat, grid.shape))
    centers = np.stack([c[i] for c, i in zip(grid.axis_centers_m, split, strict=True)], -1)
    np.testing.assert_array_equal(centers, grid.centers_m().reshape(-1, 3))


def test_dict_round_trip_and_refusals():
    grid = VoxelGrid((0, 1, 2), (0.1, 0.2, 0.3), (4, 5, 6))
    assert VoxelGrid.from_dict(grid.to_dict()) == grid
    with pytest.raises(ConfigError, match='exactly the keys'):
        VoxelGrid.from_dict({**grid.to_dict(), 'size': 1})
    with pytest.raises(ConfigError, match='positive'):
        VoxelGrid((0, 0, 0), (0.1, 0.0, 0.1), (1, 1, 1))
    with pytest.raises(ConfigError, match='threes'):
        VoxelGrid((0, 0), (0.1, 0.1), (1, 1))
