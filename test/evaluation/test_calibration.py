"""Calibration error, its remedy and the best threshold, on counts whose answers are known."""

import numpy as np
import pytest

from cigocc_ros.core.errors import ConfigError, DataFileError
from cigocc_ros.evaluation.calibration import (
    BYTES,
    LOGITS,
    ClassCounts,
    OccupancyCounts,
    Platt,
    logit_levels,
)


def counts_of(true_platt: Platt, voxels: int = 400_000, seed: int = 0) -> OccupancyCounts:
    """Return counts of a network whose probabilities become true by `true_platt`."""
    rng = np.random.default_rng(seed)
    said = rng.integers(0, 256, voxels).astype(np.uint8)
    truth = rng.random(voxels) < true_platt.apply(said / 255)
    counts = OccupancyCounts()
    counts.update(said, np.where(truth, 9, 0).astype(np.uint8))
    return counts


def test_honest_probabilities_have_no_error():
    assert counts_of(Platt(1.0, 0.0)).calibration_error() < 0.005


@pytest.mark.parametrize('true_platt', [Platt(0.5, -1.0), Platt(2.0, 0.7), Platt(1.0, -2.0)])
def test_the_scaling_that_was_hidden_is_found(true_platt):
    counts = counts_of(true_platt)
    found = counts.fit()
    assert found.scale == pytest.approx(true_platt.scale, rel=0.03)
    assert found.shift == pytest.approx(true_platt.shift, abs=0.03)
    assert counts.calibration_error() > 0.05
    assert counts.calibration_error(found) < 0.01


def test_error_by_hand():
    counts = OccupancyCounts()
    counts.update(np.full(4, 255, np.uint8), np.array([9, 9, 0, 255], np.uint8))
    counts.update(np.full(1, 0, np.uint8), np.array([0], np.uint8))
    # three voxels say 1 and two are, one says 0 and is: (3 |1 - 2/3| + 1 * 0) / 4
    assert counts.calibration_error() == pytest.approx(0.25)
    assert [row.voxels for row in counts.reliability()] == [1, 3]


def test_best_threshold_is_that_of_a_search():
    counts = counts_of(Platt(1.5, -1.0), 20_000)
    threshold, iou = counts.best_threshold()
    levels = np.arange(256) / 255
    every = []
    for at in levels:
        said = levels >= at
        union = counts.occupied.sum() + counts.free[said].sum()
        every.append(counts.occupied[said].sum() / union)
    assert iou == pytest.approx(max(every))
    said = levels >= threshold
    assert counts.occupied[said].sum() / (
        counts.occupied.sum() + counts.free[said].sum()
    ) == pytest.approx(iou)


def test_a_threshold_can_be_taken_back_through_the_scaling():
    platt = Platt(0.7, -0.4)
    raw = platt.undo(0.6)
    assert platt.apply(np.array([raw]))[0] == pytest.approx(0.6)


def test_order_of_voxels_stays():
    assert (np.diff(Platt(0.3, 2.0).apply(np.arange(256) / 255)) >= 0).all()


@pytest.mark.parametrize('values', [(0.0, 1.0), (-1.0, 0.0), (np.nan, 0.0), (1.0, np.inf)])
def test_scalings_that_cannot_be_are_refused(values):
    with pytest.raises(ConfigError, match='scale above 0'):
        Platt(*values)


def test_what_cannot_be_judged_is_told():
    counts = OccupancyCounts()
    with pytest.raises(DataFileError, match='found 0 and 0'):
        counts.fit()
    counts.update(np.zeros(3, np.uint8), np.zeros(3, np.uint8))
    with pytest.raises(DataFileError, match='found 3 and 0'):
        counts.calibration_error()
    with pytest.raises(DataFileError, match='expected uint8 probabilities'):
        counts.update(np.zeros(3, np.float32), np.zeros(3, np.uint8))
    with pytest.raises(DataFileError, match=r'expected uint8 probabilities of \(3,\)'):
        counts.update(np.zeros(4, np.uint8), np.zeros(3, np.uint8))


@pytest.mark.parametrize('levels', [(0, 255), (100, 101), (0, 1)])
def test_voxels_told_apart_without_error_do_not_drive_it_to_infinity(levels):
    counts = OccupancyCounts()
    counts.update(np.full(10_000, levels[0], np.uint8), np.zeros(10_000, np.uint8))
    counts.update(np.full(10_000, levels[1], np.uint8), np.full(10_000, 9, np.uint8))
    found = counts.fit()
    assert 0 < found.scale < 1e4 and abs(found.shift) < 1e5
    assert counts.calibration_error(found) <= counts.calibration_error() + 0.01


def test_probabilities_that_run_against_the_truth_keep_a_scale_above_zero():
    counts = OccupancyCounts()
    counts.update(np.full(900, 20, np.uint8), np.full(900, 9, np.uint8))
    counts.update(np.full(900, 220, np.uint8), np.zeros(900, np.uint8))
    assert counts.fit().scale == pytest.approx(0.01)


def test_classes_are_judged_where_voxels_are_occupied_and_called_so():
    counts = ClassCounts()
    truth = np.array([9, 9, 1, 0, 255, 9], np.uint8)
    labels = np.array([9, 1, 1, 9, 9, 0], np.uint8)
    counts.update(labels, np.array([255, 51, 204, 255, 255, 255], np.uint8), truth)
    # 1 right at 1.0, 1 wrong at 0.2, 1 right at 0.8; free, unknown and missed ones do not count
    assert counts.right[[255, 204]].tolist() == [1, 1] and counts.wrong[51] == 1
    assert counts.voxels.sum() == 3 and counts.share_right == pytest.approx(2 / 3)
    assert counts.calibration_error() == pytest.approx((0 + 0.2 + 0.2) / 3)
    with pytest.raises(DataFileError, match='expected uint8 probabilities'):
        counts.update(labels, np.zeros(5, np.uint8), truth)
    with pytest.raises(DataFileError, match='occupied voxels whose class was named'):
        ClassCounts().calibration_error()


def test_one_scaling_after_another_is_one_scaling():
    first, second = Platt(0.6, -0.8), Platt(1.7, 0.3)
    said = np.linspace(0.05, 0.95, 7)
    np.testing.assert_allclose(second.after(first).apply(said), second.apply(first.apply(said)))


def test_steps_of_a_logit_tell_what_bytes_do_not():
    """Most voxels are free and say so with 1e-5 or less, all of which is 0 in a byte."""
    rng = np.random.default_rng(3)
    logits = rng.normal(-9, 6, 400_000)
    true_platt = Platt(0.5, 0.4)
    truth = np.where(rng.random(len(logits)) < true_platt.of_logits(logits), 9, 0).astype(np.uint8)
    fine, coarse = OccupancyCounts(LOGITS), OccupancyCounts()
    fine.update_levels(logit_levels(logits.astype(np.float32)), truth)
    coarse.update(np.rint(255 / (1 + np.exp(-logits))).astype(np.uint8), truth)
    found = fine.fit()
    assert found.scale == pytest.approx(0.5, rel=0.02)
    assert found.shift == pytest.approx(0.4, abs=0.03)
    assert abs(coarse.fit().scale - 0.5) > 0.05
    said = found.of_logits(logits)
    assert abs(said.mean() - (truth > 0).mean()) < 0.002
    assert fine.calibration_error(found) < 0.002


def test_levels_of_a_logit_are_the_nearest_and_end_somewhere():
    assert LOGITS.logits[logit_levels(np.float32([0.0, 1.01, -2.99]))].tolist() == [0.0, 1.0, -3.0]
    ends = LOGITS.logits[logit_levels(np.float32([-1e4, 1e4]))]
    assert ends.tolist() == [-24.0, 24.0] == [LOGITS.logits[0], LOGITS.logits[-1]]
    assert (np.diff(LOGITS.edges) > 0).all() and (np.diff(BYTES.edges)[1:] > 0).all()
    assert (LOGITS.edges < LOGITS.logits).all()


def test_threshold_of_fine_levels_is_that_of_bytes():
    rng = np.random.default_rng(4)
    logits = rng.normal(0, 2, 200_000).astype(np.float32)
    truth = np.where(rng.random(len(logits)) < Platt(1.0, -1.0).of_logits(logits), 9, 0)
    fine, coarse = OccupancyCounts(LOGITS), OccupancyCounts()
    fine.update_levels(logit_levels(logits), truth.astype(np.uint8))
    coarse.update(np.rint(255 / (1 + np.exp(-logits))).astype(np.uint8), truth.astype(np.uint8))
    (at, iou), (rough, rough_iou) = fine.best_threshold(), coarse.best_threshold()
    assert at == pytest.approx(rough, abs=0.03) and iou == pytest.approx(rough_iou, abs=1e-3)
