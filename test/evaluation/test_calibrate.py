"""A calibration of counts whose answers are known: what is fitted, and what is held out."""

from dataclasses import replace

import numpy as np
import pytest
from fixtures_calibration import calibration
from fixtures_tiny_model import TINY_CONFIG

from cigocc_ros.core.errors import ConfigError
from cigocc_ros.data.kitti_layout import FrameKey
from cigocc_ros.evaluation.calibrate import (
    ALL,
    Counted,
    all_scores,
    calibration_of,
    fit,
    in_the_graph,
    left_out,
    parts_of,
)
from cigocc_ros.evaluation.calibration import Platt
from cigocc_ros.runtime.contract import manifest_for

SHAPE = (60, 60, 20)
FRAMES = tuple(FrameKey('05', f'{i:06d}') for i in range(10))


def counted(true_platt, seed=0):
    """Return what is counted on a frame whose probabilities become true by `true_platt`."""
    rng = np.random.default_rng(seed)
    said = rng.integers(0, 256, SHAPE).astype(np.uint8)
    truth = np.where(rng.random(SHAPE) < true_platt.apply(said / 255), 9, 0).astype(np.uint8)
    truth[:5] = 255
    labels = np.where(said >= 250, 9, 0).astype(np.uint8)
    one = Counted()
    one.update(labels, said, truth)
    return one


@pytest.fixture
def by_prior():
    """Return counts of two parts with two priors that need one scaling."""
    return {
        prior: [counted(Platt(0.5, -1.5), seed), counted(Platt(0.5, -1.5), seed + 1)]
        for prior, seed in (('stereo', 1), ('none', 11))
    }


def test_all_priors_and_parts_give_the_numbers(by_prior):
    fitted = fit(by_prior, with_classes=False)
    assert fitted.platt.scale == pytest.approx(0.5, rel=0.05)
    assert fitted.platt.shift == pytest.approx(-1.5, abs=0.05)
    assert fitted.temperature is None
    scores = all_scores(by_prior, fitted, with_classes=False)
    assert list(scores) == ['stereo', 'none', ALL]
    for found in scores.values():
        assert found.occupied.before > 0.1 and found.occupied.after < 0.02
        assert found.occupied.held_out < 0.03 and found.classes is None
        assert found.iou_before < found.iou_after <= found.own_iou
        assert found.iou_held_out == pytest.approx(found.iou_after, abs=0.02)


def test_the_threshold_is_of_the_calibrated_probability(by_prior):
    fitted = fit(by_prior, with_classes=False)
    whole = by_prior['stereo'][0].occupancy
    said = np.arange(256) / 255
    shown = fitted.platt.apply(said) >= fitted.threshold
    assert np.flatnonzero(shown)[0] == fitted.level
    union = whole.occupied.sum() + whole.free[shown].sum()
    assert whole.occupied[shown].sum() / union == pytest.approx(whole.iou[fitted.level])


def test_the_threshold_serves_every_prior_alike():
    """A prior with ten times the frames does not decide alone."""
    one = {'a': [counted(Platt(1.0, 0.0), s) for s in range(20)], 'b': [counted(Platt(1, -3), 50)]}
    level = fit(one, with_classes=False).level
    means = [
        np.mean(
            [
                sum(p.occupancy.occupied[k:].sum() for p in parts)
                / (sum(p.occupancy.occupied.sum() + p.occupancy.free[k:].sum() for p in parts))
                for parts in one.values()
            ]
        )
        for k in range(1, 256)
    ]
    assert level == int(np.argmax(means)) + 1


def test_what_is_held_out_takes_no_part_in_its_numbers():
    """A part that is unlike the other one is judged by the other's numbers, and looks bad."""
    parts = [counted(Platt(1.0, 0.0), 1), counted(Platt(1.0, -4.0), 2)]
    first, second = left_out({'stereo': parts}, with_classes=False)
    assert first.platt.shift == pytest.approx(-4.0, abs=0.15)
    assert second.platt.shift == pytest.approx(0.0, abs=0.15)
    fitted = fit({'stereo': parts}, with_classes=False)
    found = all_scores({'stereo': parts}, fitted, with_classes=False)['stereo']
    assert found.occupied.held_out > 0.25 > found.occupied.after
    assert found.iou_held_out < found.iou_after


def test_parts_are_sequences_or_runs_of_frames():
    other = tuple(FrameKey('09', f'{i:06d}') for i in range(3))
    assert parts_of((*FRAMES, *other), folds=9) == [FRAMES, other]
    assert [len(part) for part in parts_of(FRAMES, 4)] == [2, 3, 2, 3]
    assert sum(parts_of(FRAMES, 3), ()) == FRAMES
    for folds in (0, 1, 11):
        with pytest.raises(ConfigError, match='--folds'):
            parts_of(FRAMES, folds)


def test_numbers_are_those_of_the_checkpoint_whatever_was_in_the_graph(by_prior):
    manifest = manifest_for(TINY_CONFIG, 'm', license='x', files={}, training={})
    fitted = fit(by_prior, with_classes=False)
    scores = all_scores(by_prior, fitted, with_classes=False)
    plain, shifted, again = (
        calibration_of(made, FRAMES, fitted, scores, {'model': 'm'})
        for made in (
            manifest,
            replace(manifest, training={'empty_shift': 3.2}),
            replace(manifest, calibration=calibration(scale=0.5, shift=1.0)),
        )
    )
    platt = fitted.platt
    assert (plain.scale, plain.shift) == (platt.scale, platt.shift)
    assert (shifted.scale, shifted.shift) == (platt.scale, platt.shift - 3.2 * platt.scale)
    assert again.scale == 0.5 * platt.scale and again.shift == platt.shift + platt.scale
    assert plain.threshold == shifted.threshold == again.threshold
    assert plain.frames == {'05': 10} and plain.facts['priors'][ALL]['iou_after'] > 0
    logit = 0.7
    raw = in_the_graph(replace(manifest, training={'empty_shift': 3.2}))
    said = raw.scale * logit + raw.shift
    assert platt.scale * said + platt.shift == pytest.approx(shifted.scale * logit + shifted.shift)
