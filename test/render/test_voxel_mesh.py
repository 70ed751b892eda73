"""The skin of a voxel map: which faces exist, where, how lit."""

import numpy as np
import pytest

from cigocc_ros.core.grid import VoxelGrid
from cigocc_ros.core.labels import CLASS_NAMES, IGNORE, PALETTE_RGB
from cigocc_ros.render.quads import box
from cigocc_ros.render.voxel_mesh import CORNER_LIGHT, voxel_quads

GRID = VoxelGrid((10.0, -2.0, -1.0), (0.5, 0.5, 0.25), (6, 6, 6))
CAR = CLASS_NAMES.index('car')
ROAD = CLASS_NAMES.index('road')


def labels_with(*voxels: tuple[int, int, int], train_id: int = CAR) -> np.ndarray:
    labels = np.zeros(GRID.shape, np.uint8)
    labels[tuple(np.array(voxels).T)] = train_id
    return labels


def test_a_lone_voxel_shows_six_faces_around_its_centre():
    faces = voxel_quads(labels_with((1, 2, 3)), GRID)
    assert len(faces) == 6
    center = GRID.center_of(np.array([1, 2, 3]))
    middle = faces.corner + (faces.edge_a + faces.edge_b) / 2
    outwards = (middle - center) / (np.array(GRID.voxel_size_m) / 2)
    np.testing.assert_allclose(outwards, faces.normals, atol=1e-5)
    np.testing.assert_allclose(faces.rgb * 255, np.tile(PALETTE_RGB[CAR], (6, 1)), atol=1e-3)


@pytest.mark.parametrize(('second', 'count'), [((1, 2, 4), 10), ((2, 3, 3), 12), ((5, 5, 5), 12)])
def test_only_shared_faces_are_hidden(second, count):
    assert len(voxel_quads(labels_with((1, 2, 3), second), GRID)) == count


def test_the_inside_of_a_block_is_culled():
    labels = np.full(GRID.shape, ROAD, np.uint8)
    assert len(voxel_quads(labels, GRID)) == 6 * 36


def test_unknown_voxels_are_neither_drawn_nor_hiding():
    labels = labels_with((1, 2, 3))
    labels[1, 2, 4] = IGNORE
    assert len(voxel_quads(labels, GRID)) == 6


def test_a_wall_darkens_the_floor_corners_that_touch_it():
    faces = voxel_quads(labels_with((2, 2, 0), (3, 2, 1)), GRID)
    top = [
        place
        for place in range(len(faces))
        if faces.normals[place, 2] > 0.5 and faces.corner[place, 2] == GRID.origin_m[2] + 0.25
    ]
    assert len(top) == 1
    light = faces.corner_light[top[0]]
    towards_wall = light[1] if faces.edge_a[top[0], 0] > 0 else light[:, 1]
    away = light[0] if faces.edge_a[top[0], 0] > 0 else light[:, 0]
    np.testing.assert_array_equal(towards_wall, CORNER_LIGHT[1])
    np.testing.assert_array_equal(away, CORNER_LIGHT[0])


def test_an_empty_map_has_no_faces():
    assert len(voxel_quads(np.zeros(GRID.shape, np.uint8), GRID)) == 0


def test_a_box_faces_outwards():
    sides = box((0, 0, 0), (1, 2, 3), (1, 1, 1))
    middle = sides.corner + (sides.edge_a + sides.edge_b) / 2
    assert (np.einsum('ij,ij->i', middle - [0.5, 1, 1.5], sides.normals) > 0).all()
