"""A calibration of counts whose answers are known: what is fitted, and what is held out."""

from dataclasses import replace

import numpy as np
import pytest
from fixtures_calibration import calibration
from fixtures_tiny_model import TINY_CONFIG

from cigocc_ros.core.calibration import Scaling
from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.views import MEASURED, OUTSIDE, SEEN, VIEWS
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
    pooled,
)
from cigocc_ros.evaluation.calibration import Platt
from cigocc_ros.runtime.contract import manifest_for

SHAPE = (60, 60, 20)
FRAMES = tuple(FrameKey('05', f'{i:06d}') for i in range(10))


def counted(true_platt, seed=0, others=None):
    """Return what is counted on a frame whose probabilities become true by `true_platt`.

    `others` are the scalings of views that are unlike it, by index.
    """
    rng = np.random.default_rng(seed)
    said = rng.integers(0, 256, SHAPE).astype(np.uint8)
    views = rng.integers(0, len(VIEWS), SHAPE).astype(np.uint8)
    true = true_platt.apply(said / 255)
    for view, platt in (others or {}).items():
        true = np.where(views == view, platt.apply(said / 255), true)
    truth = np.where(rng.random(SHAPE) < true, 9, 0).astype(np.uint8)
    truth[:5] = 255
    labels = np.where(said >= 250, 9, 0).astype(np.uint8)
    one = Counted()
    one.update(labels, said, views, truth)
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
    for platt in fitted.scalings:
        assert platt.scale == pytest.approx(0.5, rel=0.05)
        assert platt.shift == pytest.approx(-1.5, abs=0.05)
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
    scaled = by_prior['stereo'][0].occupancy.under(fitted.scalings)
    shown = scaled.levels.said >= fitted.threshold
    union = scaled.occupied.sum() + scaled.free[shown].sum()
    found = all_scores(by_prior, fitted, with_classes=False)['stereo']
    assert scaled.occupied[shown].sum() / union == pytest.approx(found.iou_after, abs=0.02)
    least = fitted.least(by_prior['stereo'][0])
    for platt, level in zip(fitted.scalings, least, strict=True):
        said = platt.apply(np.arange(256) / 255)
        assert np.flatnonzero(said >= fitted.threshold)[0] == level


def test_each_view_has_numbers_of_its_own():
    """What is too sure in one view and right in another is mended where it is wrong."""
    others = {MEASURED: Platt(1.0, 2.0), SEEN: Platt(1.0, 0.0)}
    parts = [counted(Platt(0.5, -2.0), seed, others) for seed in (1, 2)]
    fitted = fit({'stereo': parts}, with_classes=False)
    for view, (scale, shift) in enumerate([(0.5, -2.0), (1.0, 0.0), (1.0, 2.0)]):
        assert fitted.scalings[view].scale == pytest.approx(scale, rel=0.05)
        assert fitted.scalings[view].shift == pytest.approx(shift, abs=0.06)
    found = all_scores({'stereo': parts}, fitted, with_classes=False)['stereo']
    assert found.occupied.after < 0.01 and found.occupied.held_out < 0.02
    alike = pooled(parts).occupancy.together  # what one scaling for all of them leaves
    assert found.iou_after > alike.iou.max() + 0.02
    manifest = manifest_for(TINY_CONFIG, 'm', license='x', files={}, training={})
    made = calibration_of(manifest, FRAMES, fitted, {ALL: found}, {})
    assert made.tells_views and len(set(made.scalings)) == 3
    assert [(one.scale, one.shift) for one in made.scalings] == [
        (one.scale, one.shift) for one in fitted.scalings
    ]


def test_a_view_that_was_not_met_takes_the_numbers_of_all():
    only = counted(Platt(0.5, -2.0), 5)
    for view in (SEEN, MEASURED):
        only.occupancy.by_view[view].wrong[:] = 0  # free voxels are missing: nothing to fit
    fitted = fit({'none': [only, counted(Platt(0.5, -2.0), 6)]}, with_classes=False)
    lonely = fit({'none': [only]}, with_classes=False)
    assert lonely.scalings[SEEN] == lonely.scalings[MEASURED] == only.occupancy.together.fit()
    assert lonely.scalings[OUTSIDE] != lonely.scalings[SEEN]
    assert len(set(fitted.scalings)) == 3


def test_the_threshold_serves_every_prior_alike():
    """A prior with ten times the frames does not decide alone."""
    one = {'a': [counted(Platt(1.0, 0.0), s) for s in range(20)], 'b': [counted(Platt(1, -3), 50)]}
    fitted = fit(one, with_classes=False)
    scaled = {p: [part.occupancy.under(fitted.scalings) for part in x] for p, x in one.items()}
    said = scaled['b'][0].levels.said
    level = int(np.flatnonzero(said >= fitted.threshold)[0])
    means = [
        np.mean(
            [
                sum(p.occupied[k:].sum() for p in parts)
                / (sum(p.occupied.sum() + p.free[k:].sum() for p in parts))
                for parts in scaled.values()
            ]
        )
        for k in range(1, len(said))
    ]
    assert level == int(np.argmax(means)) + 1


def test_what_is_held_out_takes_no_part_in_its_numbers():
    """A part that is unlike the other one is judged by the other's numbers, and looks bad."""
    parts = [counted(Platt(1.0, 0.0), 1), counted(Platt(1.0, -4.0), 2)]
    first, second = left_out({'stereo': parts}, with_classes=False)
    for platt, other in zip(first.scalings, second.scalings, strict=True):
        assert platt.shift == pytest.approx(-4.0, abs=0.25)
        assert other.shift == pytest.approx(0.0, abs=0.25)
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
            replace(manifest, calibration=calibration(scale=0.5, shift=1.0, seen=Scaling(2, -1))),
        )
    )
    platts = fitted.scalings
    for made in (plain, shifted, again):
        assert made.threshold == fitted.threshold
    for index, platt in enumerate(platts):
        pairs = ((plain, 1.0, 0.0), (shifted, 1.0, -3.2))
        pairs += ((again, 2.0, -1.0) if index == SEEN else (again, 0.5, 1.0),)
        for made, scale, shift in pairs:
            found = made.scalings[index]
            assert found.scale == pytest.approx(scale * platt.scale)
            assert found.shift == pytest.approx(platt.scale * shift + platt.shift)
    assert plain.frames == {'05': 10} and plain.facts['priors'][ALL]['iou_after'] > 0
    logit, raw = 0.7, in_the_graph(replace(manifest, training={'empty_shift': 3.2}))
    said = raw[SEEN].scale * logit + raw[SEEN].shift
    expected = shifted.scalings[SEEN].scale * logit + shifted.scalings[SEEN].shift
    assert platts[SEEN].scale * said + platts[SEEN].shift == pytest.approx(expected)
