"""Occupancy head that is cheap where it is wide: only the shape is as fine as the output.

Of a query voxel the head says which class it has if it is occupied (19 logits a_c), and of each of
its 8 output voxels how surely it is occupied (one logit o). The 20 logits of an output voxel,

    logit_empty = 0,    logit_c = o + log softmax(a)_c,

give p_occupied = sigmoid(o) and p_c = p_occupied softmax(a)_c, so labels need no more than o, the
best class and its log share, all but o on the query grid.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cigocc_ros.core.config import HEAD_FACTOR, ModelConfig
from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.labels import EMPTY, NUM_CLASSES, VOXEL_COUNTS
from cigocc_ros.model.class_evidence import ClassGate
from cigocc_ros.model.lifting import SUBVOXELS, channels_to_space
from cigocc_ros.model.unet3d import conv3d_block


class Shape(NamedTuple):
    """What the head says: classes of query voxels, occupancy of output voxels."""

    classes: Tensor
    """(B, 19, X, Y, Z) logits of the classes 1..19, given that the voxel is occupied; of other
    heads as many voxels as `occupied` has."""
    occupied: Tensor
    """(B, 1, 2X, 2Y, 2Z) logit of being occupied."""


class ShapeHead(nn.Module):
    """Classes at the query grid, shape at twice its resolution (see the module's docstring).

    The smooth part of the shape is upsampled, a learned difference for each of the 8 output voxels
    is added. With the stage-1 logits as residual both start at them.
    """

    def __init__(self, config: ModelConfig) -> None:
        """Take the network config."""
        super().__init__()
        width = config.channels // 2
        self.trunk = conv3d_block(config.channels, width)
        self.classify = nn.Conv3d(width, NUM_CLASSES - 1, 1)
        self.shape = nn.Conv3d(width, 1 + SUBVOXELS, 1)
        self.residual = config.stage1_residual
        gated = config.class_evidence == 'gated' and not self.residual
        self.gate = ClassGate(width) if gated else None
        counts = torch.from_numpy(VOXEL_COUNTS)
        occupied = counts[EMPTY + 1 :]
        with torch.no_grad():
            self.shape.bias.zero_()  # type: ignore[union-attr]
            self.classify.bias.zero_()  # type: ignore[union-attr]
            if not self.residual:
                odds = float((occupied.sum() / counts[EMPTY]).log())
                self.shape.bias[0] = odds  # type: ignore[index]
                shares = (occupied / occupied.sum()).log().float()
                self.classify.bias.copy_(shares)  # type: ignore[union-attr]

    def raise_empty(self, shift: float) -> None:
        """Add `shift` to the logit of empty everywhere; ConfigError unless it is finite."""
        if not math.isfinite(shift):
            raise ConfigError(f'expected a finite shift of the logit of empty, found {shift}')
        with torch.no_grad():
            self.shape.bias[0] -= shift  # type: ignore[index]

    def forward(
        self,
        volume: Tensor,
        evidence: Tensor | None = None,
        stage1_logits: Tensor | None = None,
    ) -> Tensor:
        """Map (B, C, X, Y, Z) to logits (B, 20, 2X, 2Y, 2Z), as `OccupancyHead` does."""
        return shape_logits(self.say(volume, evidence, stage1_logits))

    def say(self, volume: Tensor, evidence: Tensor | None, stage1_logits: Tensor | None) -> Shape:
        """Return classes and occupancy apart; arguments as of `forward`."""
        x = self.trunk(volume)
        classes, (smooth, fine) = self.classify(x), self.shape(x).split([1, SUBVOXELS], dim=1)
        if self.gate is not None and evidence is not None:
            classes = classes + self.gate(x, evidence)[:, EMPTY + 1 :]
        if self.residual and stage1_logits is not None:
            classes = classes + stage1_logits[:, EMPTY + 1 :]
            smooth = smooth + occupied_logit(stage1_logits)
        occupied = F.interpolate(
            smooth, scale_factor=float(HEAD_FACTOR), mode='trilinear', align_corners=False
        )
        return Shape(classes.float(), (occupied + channels_to_space(fine.unsqueeze(1))).float())


def occupied_logit(logits: Tensor) -> Tensor:
    """Return the logit of being occupied, (B, 1, X, Y, Z), of 20 logits (B, 20, X, Y, Z)."""
    empty, classes = logits.split([EMPTY + 1, NUM_CLASSES - 1], dim=1)
    out: Tensor = log_sum(classes) - empty
    return out


def log_sum(classes: Tensor) -> Tensor:
    """Return the log of the sum of exponentials over axis 1, kept, in operators that are fast."""
    highest = classes.amax(1, keepdim=True)
    return highest + (classes - highest).exp().sum(1, keepdim=True).log()


def as_fine_as(volume: Tensor, other: Tensor) -> Tensor:
    """Repeat each voxel of (B, C, X, Y, Z) 2 x 2 x 2 times where `other` has twice the voxels."""
    if volume.shape[2:] == other.shape[2:]:
        return volume
    batch, channels, x, y, z = volume.shape
    f = HEAD_FACTOR
    repeated = volume.reshape(batch, channels, x, 1, y, 1, z, 1)
    repeated = repeated.expand(batch, channels, x, f, y, f, z, f)
    return repeated.reshape(batch, channels, f * x, f * y, f * z)


def shape_logits(shape: Shape) -> Tensor:
    """Return the logits (B, 20, 2X, 2Y, 2Z) that a shape stands for."""
    shares = as_fine_as(shape.classes.log_softmax(1), shape.occupied)
    return torch.cat((torch.zeros_like(shape.occupied), shape.occupied + shares), dim=1)
