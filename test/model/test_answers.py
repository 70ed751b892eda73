"""Calibrated answers of both kinds of heads, by the definitions; each number matters."""

import numpy as np
import pytest
import torch
from fixtures_calibration import calibrated_answers, calibration

from cigocc_ros.core.calibration import Scaling
from cigocc_ros.core.errors import ConfigError
from cigocc_ros.model.answers import calibrated, logit_answers, occupied_probability, shape_answers
from cigocc_ros.model.shape_head import Shape, shape_logits


@pytest.fixture
def shape():
    """Return classes of query voxels and occupancy of output voxels."""
    return Shape(3 * torch.randn(2, 19, 5, 4, 3), 2 * torch.randn(2, 1, 10, 8, 6))


def same(found, expected):
    labels, *probabilities = expected
    assert np.array_equal(found.labels.numpy(), labels)
    for ours, wanted in zip((found.occupied, found.class_share), probabilities, strict=True):
        np.testing.assert_allclose(ours.numpy(), wanted, atol=1e-5)


@pytest.mark.parametrize('temperature', [2.5, 0.4, None])
def test_answers_of_a_shape_are_those_of_the_definitions(shape, temperature):
    made = calibration(temperature=temperature)
    found = shape_answers(calibrated(shape, made), made)
    expected = calibrated_answers(shape_logits(shape).numpy(), made)
    same(found, expected)
    assert 0.05 < (expected[0] == 0).mean() < 0.95


def test_answers_of_logits_are_those_of_the_definitions():
    logits, made = 3 * torch.randn(2, 20, 6, 5, 4), calibration()
    found, turned = logit_answers(logits, made)
    same(found, calibrated_answers(logits.numpy(), made))
    torch.testing.assert_close(occupied_probability(turned), found.occupied)
    torch.testing.assert_close(turned[:, 1:].softmax(1).amax(1), found.class_share)


@pytest.mark.parametrize('coarse', [1, 2])
def test_each_view_has_scale_and_shift_of_its_own(shape, coarse):
    made = calibration(seen=Scaling(1.7, 0.4), measured=Scaling(0.9, 2.0))
    views = torch.randint(3, (2, *(n // coarse for n in shape.occupied.shape[2:])))
    found = shape_answers(calibrated(shape, made, views), made)
    fine = views.numpy()
    for axis in (1, 2, 3):
        fine = fine.repeat(coarse, axis)
    same(found, calibrated_answers(shape_logits(shape).numpy(), made, fine))
    outside = shape_answers(calibrated(shape, made, 0 * views), made)
    assert not torch.equal(found.labels, outside.labels)


def test_views_that_nobody_tells_are_an_error(shape):
    made = calibration(measured=Scaling(0.9, 2.0))
    with pytest.raises(ConfigError, match='knows which voxels those are'):
        calibrated(shape, made)
    alike = calibration(seen=Scaling(0.6, -0.7))  # the same as everywhere: nothing to tell
    assert not alike.tells_views and calibrated(shape, alike).occupied.isfinite().all()


def test_without_a_calibration_labels_are_the_best_logits():
    logits = 3 * torch.randn(2, 20, 6, 5, 4)
    found, same_logits = logit_answers(logits)
    assert same_logits is logits and torch.equal(found.labels.long(), logits.argmax(1))
    torch.testing.assert_close(found.class_share, logits[:, 1:].softmax(1).amax(1))


@pytest.mark.parametrize(
    ('change', 'moves'),
    [
        ({'scale': 0.9}, 'occupied'),
        ({'shift': 0.1}, 'occupied'),
        ({'threshold': 0.5}, 'labels'),
        ({'temperature': 1.0}, 'class_share'),
    ],
)
def test_each_number_moves_what_it_is_for(shape, change, moves):
    first, second = (
        shape_answers(calibrated(shape, made), made)
        for made in (calibration(), calibration(**change))
    )
    same_names = [n for n in first._fields if torch.equal(getattr(first, n), getattr(second, n))]
    assert moves not in same_names
    if moves == 'class_share':
        assert same_names == ['labels', 'occupied']
    if moves == 'labels':
        assert same_names == ['occupied', 'class_share']


def test_extreme_logits_give_numbers():
    logits = torch.full((1, 20, 1, 1, 2), -3e3)
    logits[0, 3, 0, 0, 0], logits[0, 0, 0, 0, 1] = 3e3, 3e3
    for made in (None, calibration(scale=1.0, shift=0.0)):
        found, _ = logit_answers(logits, made)
        assert found.labels.flatten().tolist() == [3, 0]
        assert found.occupied.flatten().tolist() == [1.0, 0.0]
        assert found.class_share[0, 0, 0, 0] == 1.0 and torch.isfinite(found.class_share).all()
