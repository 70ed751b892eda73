"""Right, wrong, missed and invented voxels."""

import math

import numpy as np
import pytest

from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.grid import VoxelGrid
from cigocc_ros.core.labels import IGNORE
from cigocc_ros.render.error_map import INVENTED, MISSED, NOTHING, RIGHT, WRONG_CLASS, judge
from cigocc_ros.render.sheet import VoxelPanel, draw_sheet

GRID = VoxelGrid((0.0, 0.0, 0.0), (0.4, 0.4, 0.4), (8, 1, 1))


def row(*labels: int) -> np.ndarray:
    return np.array(labels, np.uint8).reshape(-1, 1, 1)


def test_every_pair_has_its_verdict():
    truth = row(0, 9, 9, 0, 9, IGNORE, IGNORE, 1)
    predicted = row(0, 9, 1, 9, 0, 9, 0, 1)
    comparison = judge(predicted, truth, GRID)
    wanted = [NOTHING, RIGHT, WRONG_CLASS, INVENTED, MISSED, NOTHING, NOTHING, RIGHT]
    assert comparison.verdicts.ravel().tolist() == wanted
    assert comparison.counts == {'right': 2, 'wrong class': 1, 'missed': 1, 'invented': 1}
    assert comparison.iou == pytest.approx(3 / 5)


def test_the_iou_is_that_of_the_evaluation():
    from cigocc_ros.evaluation.metrics import SscMetrics

    random = np.random.default_rng(0)
    grid = VoxelGrid((0.0, 0.0, 0.0), (0.4, 0.4, 0.4), (16, 16, 4))
    predicted = random.integers(0, 4, grid.shape).astype(np.uint8)
    truth = random.choice([0, 0, 1, 2, IGNORE], grid.shape).astype(np.uint8)
    metrics = SscMetrics()
    metrics.update(predicted, truth)
    assert judge(predicted, truth, grid).iou == pytest.approx(metrics.compute().iou)


def test_finer_ground_truth_is_merged():
    fine = np.zeros((16, 2, 2), np.uint8)
    fine[:2] = 9
    comparison = judge(row(9, 1, 0, 0, 0, 0, 0, 0), fine, GRID)
    assert comparison.verdicts.ravel().tolist()[:3] == [RIGHT, INVENTED, NOTHING]


def test_shapes_that_do_not_divide_are_refused():
    with pytest.raises(ConfigError, match='divides'):
        judge(row(*range(8)), np.zeros((12, 1, 1), np.uint8), GRID)


def test_nothing_anywhere_has_no_iou():
    empty = row(*[0] * 8)
    assert math.isnan(judge(empty, empty, GRID).iou)


def test_a_sheet_of_errors_shows_colours_and_counts_of_the_verdicts():
    grid = VoxelGrid((0.0, -12.8, -2.0), (0.8, 0.8, 0.8), (32, 32, 8))
    truth, predicted = np.zeros(grid.shape, np.uint8), np.zeros(grid.shape, np.uint8)
    truth[:, :16, 1], predicted[:, 8:24, 1] = 9, 9
    panel = VoxelPanel.of_errors(judge(predicted, truth, grid))
    assert panel.title == 'errors, IoU 33.3 %'
    assert [(entry.name, entry.numbers) for entry in panel.legend] == [
        ('right', '256'),
        ('wrong class', '0'),
        ('missed', '256'),
        ('invented', '256'),
    ]
    sheet = draw_sheet('x', [panel], size=(640, 480)).astype(int)
    blue = (sheet[..., 2] > sheet[..., 0] + 80).sum()
    orange = (sheet[..., 0] > sheet[..., 2] + 100).sum()
    assert blue > 1500 and orange > 1500
