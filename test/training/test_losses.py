"""The losses against stored values, hand-worked cases and the oracles of the design notes."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.labels import class_weights
from cigocc_ros.training import losses

WEIGHTS = torch.from_numpy(class_weights())
SHAPE = (2, 4, 4, 2)


def ce(logits: Tensor, target: Tensor) -> Tensor:
    return losses.cross_entropy(logits, target, WEIGHTS)


VOXEL_LOSSES = pytest.mark.parametrize('loss', [ce, losses.scal_geo, losses.scal_sem])
Loss = Callable[[Tensor, Tensor], Tensor]


def random_target(seed: int = 0) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.choice([0, 0, 0, 1, 9, 13, 255], SHAPE).astype(np.uint8))


def one_hot_logits(target: Tensor, strength: float = 40.0) -> Tensor:
    known = torch.where(target == 255, 0, target).long()
    return strength * torch.nn.functional.one_hot(known, 20).movedim(-1, 1).float()


@pytest.mark.parametrize(
    ('name', 'loss'), [('ce', None), ('scal_geo', losses.scal_geo), ('scal_sem', losses.scal_sem)]
)
def test_matches_the_published_implementations(
    name: str, loss: Loss | None, shared_dir: Path
) -> None:
    golden = np.load(shared_dir / 'golden' / 'ssc_losses.npz')
    logits, target = torch.from_numpy(golden['logits']), torch.from_numpy(golden['labels'])
    if loss is None:
        found = losses.cross_entropy(logits, target, torch.from_numpy(golden['class_weights']))
    else:
        found = loss(logits, target)
    assert found.item() == pytest.approx(float(golden[name]), rel=1e-5)


def test_cross_entropy_of_two_voxels_by_hand() -> None:
    logits = torch.zeros(1, 2, 2, 1, 1)
    logits[0, 1, 1] = math.log(3.0)  # the second voxel says 1/4, 3/4
    target = torch.tensor([0, 1]).reshape(1, 2, 1, 1)
    expected = (1.0 * math.log(2) + 3.0 * math.log(4 / 3)) / 4.0
    found = losses.cross_entropy(logits, target, torch.tensor([1.0, 3.0]))
    assert found.item() == pytest.approx(expected)


def test_scal_geo_of_two_voxels_by_hand() -> None:
    logits = torch.zeros(1, 2, 2, 1, 1)
    logits[0, 1, 1] = math.log(3.0)
    target = torch.tensor([0, 1]).reshape(1, 2, 1, 1)
    precision, recall, specificity = 0.75 / 1.25, 0.75, 0.5
    expected = -math.log(precision * recall * specificity)
    assert losses.scal_geo(logits, target).item() == pytest.approx(expected, rel=1e-4)


def test_scal_sem_equals_a_loop_over_classes() -> None:
    target = random_target(1)
    logits = torch.randn(2, 20, *SHAPE[1:], generator=torch.Generator().manual_seed(1))
    known = target != 255
    p = logits.softmax(1).movedim(1, -1)[known]
    y = target[known].long()
    terms = []
    for c in y.unique():
        own, p_c = y == c, p[:, c]
        terms.append(-(p_c[own].sum() / p_c.sum()).log() - p_c[own].mean().log())
        terms[-1] = terms[-1] - (1 - p_c[~own]).mean().log()
    expected = torch.stack(terms).mean().item()
    assert losses.scal_sem(logits, target).item() == pytest.approx(expected, rel=1e-4)


@VOXEL_LOSSES
def test_perfect_logits_cost_nothing(loss: Loss) -> None:
    target = random_target()
    assert loss(one_hot_logits(target), target).item() == pytest.approx(0.0, abs=1e-4)


def test_uniform_logits_cost_ln_20() -> None:
    assert ce(torch.zeros(2, 20, *SHAPE[1:]), random_target()).item() == pytest.approx(
        math.log(20)
    )


@VOXEL_LOSSES
@pytest.mark.parametrize('train_id', [0, 9, 255])
def test_one_class_targets_stay_finite(loss: Loss, train_id: int) -> None:
    target = torch.full(SHAPE, train_id, dtype=torch.uint8)
    for logits in (torch.randn(2, 20, *SHAPE[1:]), 200 * torch.randn(2, 20, *SHAPE[1:])):
        logits.requires_grad_()
        value = loss(logits, target)
        value.backward()
        assert torch.isfinite(value) and torch.isfinite(logits.grad).all()
        assert train_id != 255 or value.item() == 0.0


@VOXEL_LOSSES
def test_unknown_voxels_get_no_gradient(loss: Loss) -> None:
    target = random_target()
    logits = torch.randn(2, 20, *SHAPE[1:], requires_grad=True)
    loss(logits, target).backward()
    gradient = logits.grad.abs().sum(1)
    assert gradient[target == 255].max() == 0
    assert gradient[target != 255].max() > 0


@VOXEL_LOSSES
def test_half_precision_logits_are_computed_in_float32(loss: Loss) -> None:
    target = random_target()
    logits = torch.randn(2, 20, *SHAPE[1:]).bfloat16()
    assert loss(logits, target).dtype == torch.float32
    assert loss(logits, target).item() == loss(logits.float(), target).item()


def test_mask_bce_counts_valid_pixels_and_weighs_positives() -> None:
    logits, masks = torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2, 2)
    masks[0, 0, 0, 0] = 1
    valid = torch.tensor([[[True, True], [True, False]]])[:, None].repeat(1, 2, 1, 1)
    logits[0, :, 1, 1] = 50.0  # invalid, must not count
    positive_weight = 2.0  # channel 0: two negatives, one positive
    expected = math.log(2) * (positive_weight + 2 + 3) / 6
    assert losses.mask_bce(logits, masks, valid).item() == pytest.approx(expected)
    assert losses.mask_bce(logits, masks, torch.zeros_like(valid)).item() == 0.0


def test_depth_nll_is_least_at_the_truth_and_its_scale() -> None:
    depth = torch.tensor([[[4.0, 50.0, 0.0]]])
    valid = depth > 0
    mean = torch.tensor([[[4.0, 50.0, 7.0]]]).log()
    at = [
        losses.depth_nll(mean * f, torch.full_like(depth, s), depth, valid).item()
        for f, s in ((1.0, -1.0), (1.1, -1.0), (0.9, -1.0), (1.0, 1.0))
    ]
    assert at[0] == min(at)
    expected = 2 * math.log(2) - 1.0  # -log of the logistic density at its mean, scale 1/e
    assert at[0] == pytest.approx(expected, rel=1e-5)
    assert losses.depth_nll(mean, mean, depth, depth > 99).item() == 0.0


def test_distillation_counts_valid_pixels_only() -> None:
    student, teacher = torch.zeros(1, 3, 1, 2), torch.ones(1, 3, 1, 2)
    teacher[..., 1] = 100
    valid = torch.tensor([[[True, False]]])
    assert losses.feature_distillation(student, teacher, valid).item() == pytest.approx(1.0)


def test_total_is_the_weighted_sum_and_its_gradient() -> None:
    a, b = torch.tensor(2.0, requires_grad=True), torch.tensor(3.0, requires_grad=True)
    total = losses.total_loss({'a': a, 'b': b}, {'a': 1.0, 'b': 0.5, 'unused': 7.0})
    total.backward()
    assert total.item() == 3.5
    assert (a.grad.item(), b.grad.item()) == (1.0, 0.5)


def test_total_refuses_a_term_without_weight() -> None:
    with pytest.raises(ConfigError, match='typo'):
        losses.total_loss({'typo': torch.tensor(1.0)}, {'ssc': 1.0})
