"""Pictures: the right colour at the right pixel, the same every time."""

import numpy as np
import pytest

from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID
from cigocc_ros.core.labels import CLASS_NAMES, PALETTE_RGB
from cigocc_ros.render.picture import draw_voxels
from cigocc_ros.render.views import CHASE, TOP, make_view

GRID = SEMANTIC_KITTI_GRID.with_shape((32, 32, 8))
SIZE = (160, 90)


def hue(rgb: np.ndarray) -> np.ndarray:
    """Return a colour without its brightness."""
    return rgb.astype(float) / np.linalg.norm(rgb.astype(float))


@pytest.mark.parametrize('view', [CHASE, TOP])
@pytest.mark.parametrize('voxel', [(8, 16, 2), (20, 5, 1), (25, 28, 4)])
@pytest.mark.parametrize('name', ['car', 'vegetation', 'traffic-sign'])
def test_a_voxel_is_drawn_in_its_colour_where_the_view_projects_it(view, voxel, name):
    train_id = CLASS_NAMES.index(name)
    labels = np.zeros(GRID.shape, np.uint8)
    labels[voxel] = train_id
    picture = draw_voxels(labels, GRID, SIZE, view, scenery=False)
    empty = draw_voxels(np.zeros_like(labels), GRID, SIZE, view, scenery=False)
    center = GRID.center_of(np.array(voxel))
    column, row = (int(edge) for edge in make_view(view, GRID, *SIZE).project(center, *SIZE))
    np.testing.assert_allclose(hue(picture[row, column]), hue(PALETTE_RGB[train_id]), atol=0.02)
    rows, columns = np.nonzero((picture != empty).any(axis=-1))
    assert abs(rows.mean() - row) < 2 and abs(columns.mean() - column) < 2
    assert 4 < len(rows) < 400


def test_what_stands_in_front_hides_what_is_behind():
    labels = np.zeros(GRID.shape, np.uint8)
    labels[16, 14:19, 0:4] = CLASS_NAMES.index('building')
    alone = draw_voxels(labels, GRID, SIZE, scenery=False)
    labels[18, 16, 0] = CLASS_NAMES.index('person')
    np.testing.assert_array_equal(draw_voxels(labels, GRID, SIZE, scenery=False), alone)


def test_left_is_left_and_far_is_up():
    view = make_view(CHASE, GRID, *SIZE)
    near, far, left = (
        view.project(np.array(point), *SIZE) for point in ((5.0, 0, 0), (45.0, 0, 0), (5.0, 9, 0))
    )
    assert far[1] < near[1] and left[0] < near[0] and abs(near[0] - SIZE[0] / 2) < 1e-6


def test_a_neighbour_casts_a_shadow():
    road = np.zeros(GRID.shape, np.uint8)
    road[:, :, 0] = CLASS_NAMES.index('road')
    wall = road.copy()
    wall[:, 16, 1:6] = CLASS_NAMES.index('building')
    bare, shaded = (draw_voxels(m, GRID, SIZE, TOP).astype(int).sum(-1) for m in (road, wall))
    place = make_view(TOP, GRID, *SIZE).project(np.array([20.0, -1.5, 0]), *SIZE)
    column, row = (int(edge) for edge in place)
    assert shaded[row, column] < 0.8 * bare[row, column]


def test_pictures_are_deterministic_and_depend_on_the_map_only():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 20, GRID.shape).astype(np.uint8)
    first, second = (draw_voxels(labels, GRID, SIZE) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.shape == (90, 160, 3) and first.dtype == np.uint8


def test_wrong_requests_are_refused():
    labels = np.zeros((4, 4, 4), np.uint8)
    with pytest.raises(ConfigError, match=r'\(4, 4, 4\)'):
        draw_voxels(labels, GRID, SIZE)
    with pytest.raises(ConfigError, match='chase'):
        draw_voxels(np.zeros(GRID.shape, np.uint8), GRID, SIZE, 'side')
