from dataclasses import replace

import numpy as np
import pytest

from cigocc_ros.core.camera import CameraModel
from cigocc_ros.core.errors import CalibrationError, FrameError
from cigocc_ros.core.frames import (
    CameraFrame,
    Occupancy,
    class_probability_on_grid,
    labels_on_grid,
)
from cigocc_ros.core.grid import VoxelGrid

CAMERA = CameraModel.from_intrinsics(50, 50, 20, 10, 40, 20)
IMAGE = np.zeros((20, 40, 3), np.uint8)


def frame(**changes):
    values = {'image': IMAGE, 'camera': CAMERA, 'cam_from_velo': np.eye(4), 'stamp_ns': 1}
    return CameraFrame(**{**values, 'frame_id': 'camera', **changes})


@pytest.mark.parametrize(
    ('changes', 'error', 'message'),
    [
        ({'image': IMAGE.astype(np.float32)}, FrameError, 'uint8'),
        ({'image': IMAGE[:, :, 0]}, FrameError, 'rgb'),
        ({'image': IMAGE[:10]}, FrameError, '40x10'),
        ({'cam_from_velo': np.zeros((4, 4))}, CalibrationError, 'rigid'),
        ({'depth_m': np.zeros((20, 40))}, FrameError, 'float32'),
        ({'depth_m': np.full((20, 40), np.nan, np.float32)}, FrameError, 'finite'),
        ({'depth_m': np.full((20, 40), -1, np.float32)}, FrameError, 'negative'),
        ({'depth_m': np.full((20, 40), np.inf, np.float32)}, FrameError, 'finite'),
        ({'depth_m': np.where(np.eye(20, 40), np.float32(np.inf), 1)}, FrameError, 'finite'),
        ({'depth_m': np.zeros((20, 41), np.float32)}, FrameError, 'like the image'),
    ],
)
def test_frames_that_do_not_fit_are_refused(changes, error, message):
    assert frame().grid_frame_id == 'velo_link'
    with pytest.raises(error, match=message):
        frame(**changes)


def test_occupancy_checks_itself_and_counts():
    grid = VoxelGrid((0, 0, 0), (1, 1, 1), (2, 2, 2))
    labels = np.array([0, 0, 9, 9, 9, 1, 0, 0], np.uint8).reshape(2, 2, 2)
    occupancy = Occupancy(labels, labels * 10, grid, 5, 'velo_link')
    assert occupancy.occupied.sum() == 4
    assert occupancy.occupied_index.tolist() == [2, 3, 4, 5]
    assert occupancy.class_counts()[[0, 1, 9]].tolist() == [4, 1, 3]
    with pytest.raises(FrameError, match='0..19'):
        Occupancy(labels + 20, labels, grid, 5, 'velo_link')
    with pytest.raises(FrameError, match='probability'):
        Occupancy(labels, labels[:1], grid, 5, 'velo_link')
    for wrong in (labels[:1], labels.astype(np.float32)):
        with pytest.raises(FrameError, match='class_probability must be uint8'):
            Occupancy(labels, labels, grid, 5, 'velo_link', wrong)


def test_class_probabilities_go_to_a_finer_grid_as_labels_do():
    grid = VoxelGrid((0, 0, 0), (1, 1, 1), (2, 2, 2))
    labels = np.arange(8, dtype=np.uint8).reshape(2, 2, 2)
    finer = grid.with_shape((4, 4, 2))
    plain = Occupancy(labels, labels, grid, 5, 'velo_link')
    assert class_probability_on_grid(plain, finer) is None
    sure = replace(plain, class_probability=labels * 3)
    found = class_probability_on_grid(sure, finer)
    np.testing.assert_array_equal(found, 3 * labels_on_grid(plain, finer))
    with pytest.raises(FrameError, match='refines'):
        class_probability_on_grid(sure, grid.with_shape((3, 2, 2)))
