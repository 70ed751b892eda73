"""Rows of the decomposition hold the truth where they say so."""

import numpy as np
import pytest

from benchmark.decomposition import along_rays, decomposed, nearest_class
from cigocc_ros.core.camera import CameraModel
from cigocc_ros.core.frames import CameraFrame
from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID

CAM_FROM_VELO = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])
SHAPE = SEMANTIC_KITTI_GRID.shape


@pytest.fixture
def frame() -> CameraFrame:
    matrix = np.array([[50.0, 0, 32, 0], [0, 50, 24, 0], [0, 0, 1, 0]])
    camera = CameraModel(width=64, height=48, projection=matrix)
    return CameraFrame(np.zeros((48, 64, 3), np.uint8), camera, CAM_FROM_VELO, 1, 'cam')


def test_a_pixel_is_copied_along_its_ray(frame):
    pixels = np.full((48, 64), 3, np.uint8)
    pixels[:, :32] = 5  # left in the image is y > 0
    classes = along_rays(frame, pixels)
    assert classes[100, 135, 10] == 5 and classes[200, 140, 10] == 5
    assert classes[100, 120, 10] == 3
    assert classes[10, 250, 10] == 0  # aside of what the camera sees


def test_the_nearest_class_fills_everything():
    labels = np.zeros((5, 4, 3), np.uint8)
    labels[0, 0, 0], labels[4, 3, 2] = 2, 7
    filled = nearest_class(labels)
    assert (filled != 0).all()
    assert filled[1, 0, 0] == 2 and filled[4, 3, 1] == 7
    assert np.count_nonzero(labels) == 2
    assert not nearest_class(np.zeros((2, 2, 2), np.uint8)).any()


def test_each_row_takes_what_it_says_from_the_truth(frame):
    predicted, target = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    both, missed, invented, unknown = (100, 120, 10), (101, 120, 10), (102, 120, 10), (9, 9, 9)
    predicted[both], predicted[invented], predicted[unknown] = 4, 4, 4
    target[both], target[missed], target[unknown] = 9, 9, 255
    pixels = np.full((48, 64), 6, np.uint8)
    rows = decomposed(frame, predicted, target, pixels)
    said = {name: [int(row[at]) for at in (both, missed, invented)] for name, row in rows.items()}
    assert said == {
        'the model': [4, 0, 4],
        'its occupancy, true classes': [9, 0, 4],
        'true occupancy, its classes': [4, 4, 0],
        'true occupancy, class of the pixel': [6, 6, 0],
        'its occupancy, class of the pixel': [6, 0, 6],
    }
    assert rows['its occupancy, true classes'][unknown] == 4
