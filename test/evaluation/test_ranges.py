"""Short-range scores against a loop over voxel centres."""

import numpy as np
import pytest

from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID
from cigocc_ros.evaluation.metrics import SscMetrics
from cigocc_ros.evaluation.ranges import RANGES_M, RangedMetrics, range_box

COARSE = SEMANTIC_KITTI_GRID.with_shape((32, 32, 8))


@pytest.mark.parametrize('range_m, voxels', [(12.8, 64), (25.6, 128), (51.2, 256)])
def test_boxes_of_the_full_grid(range_m, voxels):
    x, y = range_box(range_m)
    assert (x.start, x.stop) == (0, voxels)
    assert (y.start, y.stop) == (128 - voxels // 2, 128 + voxels // 2)


@pytest.mark.parametrize('range_m', [*RANGES_M, 20.0])
def test_boxes_hold_the_centres_in_range(range_m):
    centers = COARSE.centers_m()
    expected = (centers[..., 0] < range_m) & (np.abs(centers[..., 1]) < range_m / 2)
    found = np.zeros(COARSE.shape, dtype=bool)
    found[range_box(range_m, COARSE)] = True
    np.testing.assert_array_equal(found, expected)


def test_scores_equal_those_with_the_rest_unknown():
    rng = np.random.default_rng(3)
    metrics, by_masking = RangedMetrics(grid=COARSE), {m: SscMetrics() for m in RANGES_M}
    centers = COARSE.centers_m()
    for _ in range(2):
        prediction = rng.integers(0, 20, COARSE.shape)
        target = rng.choice([0, 0, 0, 1, 9, 15, 255], COARSE.shape)
        metrics.update(prediction, target)
        for range_m, each in by_masking.items():
            near = (centers[..., 0] < range_m) & (np.abs(centers[..., 1]) < range_m / 2)
            each.update(prediction, np.where(near, target, 255))
    for range_m, scores in metrics.compute().items():
        expected = by_masking[range_m].compute()
        assert scores.num_voxels == expected.num_voxels > 0
        assert (scores.iou, scores.miou) == (expected.iou, expected.miou)


def test_other_grids_are_refused():
    with pytest.raises(DataFileError, match=r'prediction: expected \(256, 256, 32\), found'):
        RangedMetrics().update(np.zeros(COARSE.shape), np.zeros(SEMANTIC_KITTI_GRID.shape))
