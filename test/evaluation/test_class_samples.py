"""The temperature of classes, on logits whose true temperature is known."""

import numpy as np
import pytest

from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.views import MEASURED, VIEWS
from cigocc_ros.evaluation.class_samples import SAMPLES_PER_FRAME, ClassSamples

SHAPE, COARSE = (40, 40, 8), (20, 20, 4)
OUTSIDE = np.zeros(COARSE, np.uint8)


def from_level(level):
    return np.full(len(VIEWS), level)


def spread(values):
    return values.repeat(2, -1).repeat(2, -2).repeat(2, -3)


def samples_of(temperature, seed=0, bias=0.0, frames=3):
    """Return samples of a network whose classes become true by softmax(logits / temperature)."""
    rng = np.random.default_rng(seed)
    samples = ClassSamples()
    for _ in range(frames):
        logits = 3 * rng.normal(size=(20, *COARSE)).astype(np.float32)
        fine = spread(logits[1:]) / temperature
        truth = 1 + (fine + rng.gumbel(size=fine.shape)).argmax(0)  # draws from the softmax
        truth[rng.random(SHAPE) < 0.2] = 0
        truth[rng.random(SHAPE) < 0.1] = 255
        levels = rng.integers(0, 256, COARSE).astype(np.uint8)
        samples.update(logits + np.float32(bias), levels, OUTSIDE, truth.astype(np.uint8))
    return samples


@pytest.mark.parametrize('temperature', [0.5, 1.0, 2.0, 5.0])
def test_the_temperature_that_was_hidden_is_found(temperature):
    samples = samples_of(temperature)
    found = samples.fit(from_level(0))
    assert found == pytest.approx(temperature, rel=0.03)
    assert samples.counts(from_level(0), found).calibration_error() < 0.02
    if temperature != 1.0:
        assert samples.counts(from_level(0), 1.0).calibration_error() > 0.05


def test_a_temperature_changes_no_class():
    samples = samples_of(2.0)
    one, other = (samples.counts(from_level(0), temperature) for temperature in (1.0, 2.5))
    assert one.share_right == other.share_right


def test_voxels_below_the_threshold_take_no_part():
    """Their classes are not published, and are less sure than those that are."""
    samples, low = ClassSamples(), samples_of(8.0, seed=1)
    high = samples_of(1.0, seed=2)
    low._levels = [np.full_like(levels, 10) for levels in low._levels]
    high._levels = [np.full_like(levels, 200) for levels in high._levels]
    samples.include([low, high])
    assert samples.fit(from_level(100)) == pytest.approx(1.0, rel=0.04)
    assert samples.fit(from_level(0)) > 1.5
    shown, all_high = samples.counts(from_level(100), 1.0), high.counts(from_level(0), 1.0)
    assert shown.voxels.sum() == all_high.voxels.sum()


def test_each_view_has_a_threshold_of_its_own():
    """The same level is shown in one view and not in another; so is what is learnt of classes."""
    sure, unsure = samples_of(1.0, seed=3), samples_of(8.0, seed=4)
    for samples in (sure, unsure):
        samples._levels = [np.full_like(levels, 100) for levels in samples._levels]
    sure._views = [np.full_like(views, MEASURED) for views in sure._views]
    both = ClassSamples()
    both.include([sure, unsure])
    least = from_level(150)
    least[MEASURED] = 50
    assert both.fit(least) == pytest.approx(1.0, rel=0.04)
    shown = both.counts(least, 1.0).voxels.sum()
    assert shown == sure.counts(from_level(0), 1.0).voxels.sum()


def test_coarse_logits_are_those_of_the_voxels_within():
    logits = np.zeros((20, *COARSE), np.float32)
    logits[7, 3, 4, 1] = 50.0
    truth = np.zeros(SHAPE, np.uint8)
    truth[6, 9, 3] = 7  # in the coarse voxel (3, 4, 1)
    samples = ClassSamples()
    samples.update(logits, np.full(COARSE, 255, np.uint8), OUTSIDE, truth)
    counts = samples.counts(from_level(0), 1.0)
    assert counts.right[255] == 1 and counts.voxels.sum() == 1


def test_a_frame_gives_so_many_voxels_at_most():
    truth = np.full((64, 64, 16), 9, np.uint8)
    samples = ClassSamples()
    levels = np.zeros_like(truth)
    samples.update(np.zeros((20, 64, 64, 16), np.float32), levels, levels, truth)
    assert samples.counts(from_level(0), 1.0).voxels.sum() == SAMPLES_PER_FRAME


def test_classes_that_are_always_right_end_at_the_lowest_temperature():
    logits = np.zeros((20, *COARSE), np.float32)
    logits[3] = 1.0
    samples = ClassSamples()
    levels = np.full(COARSE, 255, np.uint8)
    samples.update(logits, levels, OUTSIDE, np.full(SHAPE, 3, np.uint8))
    assert 0.05 <= samples.fit(from_level(0)) < 0.2


def test_what_does_not_fit_is_told():
    samples, levels = ClassSamples(), np.zeros(COARSE, np.uint8)
    truth = np.zeros(SHAPE, np.uint8)
    with pytest.raises(DataFileError, match='expected logits'):
        samples.update(np.zeros((19, *COARSE), np.float32), levels, OUTSIDE, truth)
    with pytest.raises(DataFileError, match='expected logits'):
        samples.update(np.zeros((20, 3, 20, 4), np.float32), levels[:3], OUTSIDE, truth)
    samples.update(np.zeros((20, *COARSE), np.float32), levels, OUTSIDE, truth)
    with pytest.raises(DataFileError, match='found none'):
        samples.fit(from_level(1))
