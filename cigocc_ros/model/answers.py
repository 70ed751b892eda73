"""What leaves the network for each voxel: its label, and two probabilities that mean something.

A `Calibration` (`core.calibration`) comes between the heads and these: scale and shift of the
logit of being occupied by the view of a voxel, a threshold, a temperature of the classes. Without
one the label is the best of the 20 logits, and probabilities are as the network says them.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from cigocc_ros.core.calibration import Calibration
from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.labels import EMPTY, NUM_CLASSES
from cigocc_ros.model.logits import occupied_logit
from cigocc_ros.model.shape_head import Shape, as_fine_as, shape_logits
from cigocc_ros.model.views import scale_and_shift


class Answers(NamedTuple):
    """Each (B, X, Y, Z)."""

    labels: Tensor
    """uint8 train ids."""
    occupied: Tensor
    """Probability of being occupied, float."""
    class_share: Tensor
    """Probability of the best class, given that the voxel is occupied, float."""


def calibrated(
    shape: Shape, calibration: Calibration | None, views: Tensor | None = None
) -> Shape:
    """Return the logits after scale, shift and temperature.

    `views` (B, x, y, z) are those of voxels as fine as the output or coarser; raises ConfigError
    where the calibration tells views and there are none.
    """
    if calibration is None:
        return shape
    classes = shape.classes
    if calibration.class_temperature != 1.0:
        classes = classes * (1.0 / calibration.class_temperature)
    if not calibration.tells_views:
        return Shape(classes, shape.occupied * calibration.scale + calibration.shift)
    if views is None:
        raise ConfigError(
            'the calibration has numbers for what the camera sees and for what it does not; '
            'expected a network that knows which voxels those are, found one that does not'
        )
    both = as_fine_as(scale_and_shift(views, calibration.scalings), shape.occupied)
    scale, shift = both.split(1, dim=1)
    return Shape(classes, shape.occupied * scale + shift)


def shape_answers(shape: Shape, calibration: Calibration | None = None) -> Answers:
    """Return the answers of a shape that is calibrated already.

    Nothing with 19 channels is larger than the classes are. Labels without a calibration are those
    of `shape_logits`: occupied where the odds times the share of the best class exceed 1.
    """
    best = shape.classes.argmax(1, keepdim=True)
    total = (shape.classes - shape.classes.amax(1, keepdim=True)).exp().sum(1, keepdim=True)
    said = [best.to(torch.float32) + (EMPTY + 1), total.reciprocal()]
    if calibration is None:
        said.append(total.log())
    label, share, *needed = as_fine_as(torch.cat(said, dim=1), shape.occupied).split(1, dim=1)
    if calibration is None:
        occupied = shape.occupied > needed[0]
    else:
        occupied = shape.occupied >= calibration.needed_logit
    labels = torch.where(occupied, label, torch.full_like(label, EMPTY))
    return Answers(labels[:, 0].to(torch.uint8), torch.sigmoid(shape.occupied[:, 0]), share[:, 0])


def logit_answers(
    logits: Tensor, calibration: Calibration | None = None, views: Tensor | None = None
) -> tuple[Answers, Tensor]:
    """Return the answers of 20 logits (B, 20, X, Y, Z), and the logits that they stand for.

    `views` as of `calibrated`.
    """
    shape = Shape(logits[:, EMPTY + 1 : NUM_CLASSES], occupied_logit(logits))
    if calibration is not None:
        shape = calibrated(shape, calibration, views)
        return shape_answers(shape, calibration), shape_logits(shape)
    share = shape.classes.softmax(1).amax(1)
    return Answers(logits.argmax(1).to(torch.uint8), occupied_probability(logits), share), logits


def occupied_probability(logits: Tensor) -> Tensor:
    """Return 1 - softmax(logits)[:, EMPTY], (B, X, Y, Z), without materialising the softmax.

    p_empty = 1 / sum_c exp(l_c - l_empty): the sum is at least 1 and may overflow to infinity,
    which gives the right 0.
    """
    return 1.0 - 1.0 / torch.exp(logits - logits[:, EMPTY : EMPTY + 1]).sum(dim=1)
