"""The losses of CIGOcc as pure functions of FP32 tensors, and the one place that adds them up.

Voxel logits are (B, C, X, Y, Z), targets (B, X, Y, Z) train ids with 255 = unknown; unknown voxels
take no part and get no gradient. Every loss is finite for all-unknown, all-empty and one-class
targets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)
from torch import Tensor

from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.labels import EMPTY, IGNORE

LOG_FLOOR = -100.0
"""Smallest log probability, as torch's binary cross entropy clamps it."""
DENOMINATOR_EPSILON = 1e-5
MAX_POSITIVE_WEIGHT = 10.0


def cross_entropy(logits: Tensor, target: Tensor, class_weights: Tensor) -> Tensor:
    """Return the weighted cross entropy divided by the sum of the weights (MonoScene's "mean")."""
    target = target.long()
    weights = class_weights.to(logits.device, torch.float32)
    loss = F.cross_entropy(
        logits.float(), target, weight=weights, ignore_index=IGNORE, reduction='sum'
    )
    known = target != IGNORE
    weight_sum = weights[torch.where(known, target, EMPTY)].mul(known).sum()
    return loss / weight_sum.clamp_min(DENOMINATOR_EPSILON)


def scal_geo(logits: Tensor, target: Tensor) -> Tensor:
    """Return -(log P + log R + log S) of occupied against empty (MonoScene's L_scal^geo)."""
    known = (target != IGNORE).flatten()
    occupied = ((target != EMPTY).flatten() & known).double()
    empty = ((target == EMPTY).flatten()).double()
    p_empty = logits.float().softmax(1)[:, EMPTY].flatten()
    p_occupied = 1 - p_empty
    hit = (p_occupied * occupied).sum()
    num_occupied, num_empty = occupied.sum(), empty.sum()
    precision = _neg_log_ratio(hit, (p_occupied * known).sum(dtype=torch.float64), num_occupied)
    recall = _neg_log_ratio(hit, num_occupied, num_occupied)
    specificity = _neg_log_ratio((p_empty * empty).sum(), num_empty, num_empty)
    return (precision + recall + specificity).float()


def scal_sem(logits: Tensor, target: Tensor) -> Tensor:
    """Return the mean over present classes of -(log P_c + log R_c + log S_c) (L_scal^sem)."""
    classes = logits.shape[1]
    target = target.flatten().long()
    known = target != IGNORE
    index = torch.where(known, target, EMPTY)
    probability = logits.float().softmax(1).movedim(1, 0).flatten(1)  # (C, N)
    own = probability.gather(0, index[None])[0].double() * known
    zeros = own.new_zeros(classes)
    count = zeros.scatter_add(0, index, known.double())
    hit = zeros.scatter_add(0, index, own)
    mass = (probability @ known.float()).double()
    others = known.sum() - count
    miss = others - (mass - hit)  # probability not given to c where it is not c
    terms = (
        _neg_log_ratio(hit, mass, count)
        + _neg_log_ratio(hit, count, count)
        + _neg_log_ratio(miss, others, others)
    )
    present = count > 0
    return (terms.mul(present).sum() / present.sum().clamp_min(1)).float()


def mask_bce(logits: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
    """Return the binary cross entropy of (B, K, h, w) class masks, mean over what is valid.

    `valid` (B, K, h, w) is per class, because a teacher may not know all of them. Positives of a
    channel weigh min(10, negatives / positives).
    """
    wanted = masks.float()
    keep = valid.float()
    positive = (wanted * keep).sum((0, 2, 3))
    negative = ((1 - wanted) * keep).sum((0, 2, 3))
    weight = (negative / positive.clamp_min(1)).clamp(max=MAX_POSITIVE_WEIGHT)
    loss = F.binary_cross_entropy_with_logits(
        logits.float(), wanted, pos_weight=weight[:, None, None], reduction='none'
    )
    return (loss * keep).sum() / keep.sum().clamp_min(1)


def depth_nll(log_mean: Tensor, log_scale: Tensor, depth: Tensor, valid: Tensor) -> Tensor:
    """Return the negative log likelihood of `depth` under a logistic distribution, in metres.

    All (B, h, w); mean and scale are given as log metres, as the depth branch bounds and the
    lifting uses them. The predicted scale sets how much an error of 1 m costs: far pixels may be
    vague, near ones may not. Mean over valid pixels.
    """
    scale = log_scale.float()
    error_m = torch.where(valid, depth.float(), 0.0) - log_mean.float().exp()
    z = error_m.abs() * (-scale).exp()
    loss = z + 2 * F.softplus(-z) + scale
    return (loss * valid).sum() / valid.sum().clamp_min(1)


def feature_distillation(student: Tensor, teacher: Tensor, valid: Tensor) -> Tensor:
    """Return the squared error of (B, C, h, w), mean over C and the valid pixels (B, h, w)."""
    keep = valid[:, None].float()
    error = (student.float() - teacher.float()).square() * keep
    return error.sum() / (keep.sum() * student.shape[1]).clamp_min(1)


def total_loss(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Return the weighted sum of named losses: the tensor both logged and differentiated."""
    unknown = sorted(set(terms) - set(weights))
    if unknown or not terms:
        raise ConfigError(f'no loss weight for {unknown or "no terms"}; known: {sorted(weights)}')
    return torch.stack([weights[name] * term for name, term in terms.items()]).sum()


def _neg_log_ratio(part: Tensor, whole: Tensor, support: Tensor) -> Tensor:
    """Return -log(part / whole), 0 where nothing supports the term (its denominator is 0)."""
    ratio = (part / (whole + DENOMINATOR_EPSILON)).clamp(0.0, 1.0)
    # A floor inside the log keeps the gradient finite where the probability underflows.
    return torch.where(support > 0, -ratio.clamp_min(math.exp(LOG_FLOOR)).log(), 0.0)
