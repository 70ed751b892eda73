"""SscMetrics against the stored scores, an independent count, and hand-worked cases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.labels import NUM_CLASSES
from cigocc_ros.evaluation.metrics import SscMetrics, SscScores


def scores_of(*pairs: tuple[np.ndarray, np.ndarray]) -> SscScores:
    metrics = SscMetrics()
    for prediction, target in pairs:
        metrics.update(prediction, target)
    return metrics.compute()


def test_matches_the_published_implementations(shared_dir: Path) -> None:
    golden = np.load(shared_dir / 'golden' / 'ssc_metrics.npz')
    scores = scores_of(*zip(golden['pred'], golden['target'], strict=True))
    for name in ('precision', 'recall', 'iou', 'miou', 'iou_per_class'):
        np.testing.assert_allclose(getattr(scores, name), golden[name], rtol=0, atol=1e-6)
    for name in ('iou', 'miou', 'iou_per_class'):
        np.testing.assert_allclose(getattr(scores, name), golden[f'official_{name}'], atol=1e-12)


def test_counts_like_a_loop_over_voxels() -> None:
    rng = np.random.default_rng(0)
    prediction = rng.integers(0, NUM_CLASSES, (6, 5, 4)).astype(np.uint8)
    target = rng.choice([0, 1, 2, 9, 19, 255], (6, 5, 4)).astype(np.uint8)
    scores = scores_of((prediction, target))
    pairs = [(p, t) for p, t in zip(prediction.ravel(), target.ravel(), strict=True) if t != 255]
    for train_id in range(NUM_CLASSES):
        both = sum(p == t == train_id for p, t in pairs)
        either = sum(train_id in (p, t) for p, t in pairs)
        assert scores.iou_per_class[train_id] == pytest.approx(both / max(either, 1))
    hits = sum(p != 0 and t != 0 for p, t in pairs)
    assert scores.iou == pytest.approx(hits / sum(p != 0 or t != 0 for p, t in pairs))
    assert scores.num_voxels == len(pairs)


def test_perfect_prediction_scores_the_classes_that_occur() -> None:
    target = np.array([[[0, 1, 9, 15, 0, 255]]], dtype=np.uint8)
    scores = scores_of((np.where(target == 255, 3, target), target))
    assert (scores.precision, scores.recall, scores.iou) == (1.0, 1.0, 1.0)
    assert scores.miou == pytest.approx(3 / 19)
    assert scores.by_name()['road'] == 1.0 and 'empty' not in scores.by_name()


@pytest.mark.parametrize('target_id', [0, 9, 255])
def test_all_empty_prediction_is_zero_not_nan(target_id: int) -> None:
    target = np.full((4, 4, 2), target_id, dtype=np.uint8)
    scores = scores_of((np.zeros_like(target), target))
    assert (scores.precision, scores.recall, scores.iou, scores.miou) == (0, 0, 0, 0)


def test_frames_are_pooled_not_averaged() -> None:
    small, large = np.ones((1, 1, 1), np.uint8), np.ones((1, 1, 99), np.uint8)
    pooled = scores_of((np.zeros_like(small), small), (large, large))
    assert pooled.iou == pytest.approx(0.99)


@pytest.mark.parametrize(
    ('prediction', 'target', 'message'),
    [
        (np.zeros((2, 2, 2)), np.zeros((2, 2, 1)), 'one shape'),
        (np.full((1, 1, 1), 40), np.zeros((1, 1, 1)), 'prediction must hold train ids'),
        (np.zeros((1, 1, 1)), np.full((1, 1, 1), 40), 'target must hold train ids'),
    ],
)
def test_refuses_what_are_not_train_ids(
    prediction: np.ndarray, target: np.ndarray, message: str
) -> None:
    with pytest.raises(DataFileError, match=message):
        SscMetrics().update(prediction, target)
