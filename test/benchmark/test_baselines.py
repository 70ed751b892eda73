"""The painted baseline: points where they belong, votes, gaps, and the review's score."""

import numpy as np
import pytest

from benchmark.baselines import baseline_scores, close_gaps, paint
from cigocc_ros.core.camera import CameraModel
from cigocc_ros.core.frames import CameraFrame
from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID
from cigocc_ros.core.labels import CLASS_NAMES
from cigocc_ros.data.label_images import LabelImages

ROAD, CAR = CLASS_NAMES.index('road'), CLASS_NAMES.index('car')
CAM_FROM_VELO = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])


@pytest.fixture
def frame() -> CameraFrame:
    """A wall 10 m ahead, seen by a camera at the origin; the upper half has no depth."""
    matrix = np.array([[50.0, 0, 32], [0, 50, 24], [0, 0, 1]])
    depth = np.full((48, 64), 10.1, np.float32)
    depth[:24] = 0
    camera = CameraModel(width=64, height=48, projection=np.hstack([matrix, np.zeros((3, 1))]))
    image = np.zeros((48, 64, 3), np.uint8)
    return CameraFrame(image, camera, CAM_FROM_VELO, 1, 'cam', depth_m=depth)


def test_pixels_are_painted_at_their_depth(frame):
    classes = np.full((48, 64), CAR, np.uint8)
    labels = paint(frame, classes, SEMANTIC_KITTI_GRID)
    x, _, z = np.nonzero(labels)
    assert set(x) == {50}  # 10.0 to 10.2 m
    assert z.max() <= 10  # the upper half, above z = 0, has no depth
    assert set(np.unique(labels)) == {0, CAR}


def test_pixels_of_unknown_class_fill_nothing(frame):
    assert not paint(frame, np.zeros((48, 64), np.uint8), SEMANTIC_KITTI_GRID).any()


def test_the_commonest_class_wins_and_the_lowest_in_a_tie(frame):
    grid = SEMANTIC_KITTI_GRID.with_shape((1, 1, 1))
    classes = np.full((48, 64), ROAD, np.uint8)
    classes[:, :20] = CAR
    assert paint(frame, classes, grid).item() == ROAD
    classes[:, :32] = CAR
    assert paint(frame, classes, grid).item() == min(CAR, ROAD)


def test_gaps_of_one_voxel_are_closed():
    labels = np.zeros((6, 3, 3), np.uint8)
    labels[0, 1, 1], labels[2, 1, 1], labels[5, 1, 1] = CAR, ROAD, ROAD
    closed = close_gaps(labels)
    assert closed[:, 1, 1].tolist() == [CAR, CAR, ROAD, 0, 0, ROAD]
    assert np.count_nonzero(labels) == 3  # the input stays


def test_real_frames_score_as_the_review_found(shared_dir, capsys):
    """Reviewed: IoU 15.0 / mIoU 6.1 at 0.2 m over ten other frames; one frame is near that."""
    data = shared_dir / 'data'
    images = LabelImages(data / 'semantics_fddwnet', 'cityscapes')
    truth = data / 'derived_partial_gt'
    scores = baseline_scores(data / 'kitti_mini', images, truth, ['05'], 'stereo')
    assert 0.08 < scores['0.2 m'].iou < 0.3 and 0.03 < scores['0.2 m'].miou < 0.15
    assert scores['0.2 m, gaps closed'].recall > scores['0.2 m'].recall
