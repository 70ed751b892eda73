"""Occupancy head that is cheap where it is wide: only the shape is as fine as the output.

Of a query voxel the head says which class it has if it is occupied (19 logits a_c), and of each of
its 8 or 64 output voxels how surely it is occupied (one logit o). The logits of an output voxel,

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

from cigocc_ros.core.config import FINE_FACTOR, HEAD_FACTOR, ModelConfig
from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.labels import EMPTY, NUM_CLASSES, VOXEL_COUNTS
from cigocc_ros.model.class_evidence import ClassGate
from cigocc_ros.model.lifting import SUBVOXELS, channels_to_space
from cigocc_ros.model.logits import occupied_logit
from cigocc_ros.model.unet3d import conv3d_block


class Shape(NamedTuple):
    """What the head says: classes of query voxels, occupancy of output voxels."""

    classes: Tensor
    """(B, 19, X, Y, Z) logits of the classes 1..19, given that the voxel is occupied; of other
    heads as many voxels as `occupied` has."""
    occupied: Tensor
    """(B, 1, 2X, 2Y, 2Z) logit of being occupied, or of four times as many voxels an axis."""


Lattice = tuple[int, int, int]
"""Where every second voxel of the output begins, along each axis."""


class ShapeHead(nn.Module):
    """Classes at the query grid, shape at twice its resolution (see the module's docstring).

    The smooth part of the shape is upsampled, a learned difference for each of the 8 output voxels
    is added; where the output is four times as fine, the same once more with 64. With the stage-1
    logits as residual classes and shape start at them.
    """

    def __init__(self, config: ModelConfig) -> None:
        """Take the network config."""
        super().__init__()
        width = config.channels // 2
        self.trunk = conv3d_block(config.channels, width)
        self.classify = nn.Conv3d(width, NUM_CLASSES - 1, 1)
        self.shape = nn.Conv3d(width, 1 + SUBVOXELS, 1)
        self.fine: nn.Conv3d | None = None
        if config.has_fine_shape:
            self.fine = nn.Conv3d(width, FINE_FACTOR**3, 1)
            nn.init.zeros_(self.fine.weight)
            nn.init.zeros_(self.fine.bias)  # type: ignore[arg-type]
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
        say: Tensor | float = 1.0,
        lattice: Lattice | None = None,
    ) -> Tensor:
        """Map (B, C, X, Y, Z) to the logits of the output (B, 20, ...), as `OccupancyHead` does.

        `say` is how much its own classes count beside those of stage 1. With a `lattice` logits
        are those of every second voxel.
        """
        shape = self.say(volume, evidence, stage1_logits, say)
        if lattice is not None:
            shape = shape._replace(occupied=every_second(shape.occupied, lattice))
        return shape_logits(shape)

    def say(
        self,
        volume: Tensor,
        evidence: Tensor | None,
        stage1_logits: Tensor | None,
        say: Tensor | float = 1.0,
    ) -> Shape:
        """Return classes and occupancy apart; arguments as of `forward`."""
        x = self.trunk(volume)
        classes, (smooth, fine) = self.classify(x), self.shape(x).split([1, SUBVOXELS], dim=1)
        if self.gate is not None and evidence is not None:
            classes = classes + self.gate(x, evidence)[:, EMPTY + 1 :]
        if self.residual and stage1_logits is not None:
            classes = classes * say + stage1_logits[:, EMPTY + 1 :]
            smooth = smooth + occupied_logit(stage1_logits)
        occupied = F.interpolate(
            smooth, scale_factor=float(HEAD_FACTOR), mode='trilinear', align_corners=False
        )
        occupied = occupied + channels_to_space(fine.unsqueeze(1))
        if self.fine is not None:
            occupied = F.interpolate(
                occupied, scale_factor=2.0, mode='trilinear', align_corners=False
            )
            occupied = occupied + channels_to_space(self.fine(x).unsqueeze(1), FINE_FACTOR)
        return Shape(classes.float(), occupied.float())


def as_fine_as(volume: Tensor, other: Tensor) -> Tensor:
    """Repeat each voxel of (B, C, X, Y, Z) along each axis: as many voxels as `other` has."""
    if volume.shape[2:] == other.shape[2:]:
        return volume
    batch, channels, x, y, z = volume.shape
    f = other.shape[2] // x
    repeated = volume.reshape(batch, channels, x, 1, y, 1, z, 1)
    repeated = repeated.expand(batch, channels, x, f, y, f, z, f)
    return repeated.reshape(batch, channels, f * x, f * y, f * z)


def every_second(volume: Tensor, lattice: Lattice) -> Tensor:
    """Return every second voxel along the last three axes, from `lattice` on."""
    i, j, k = lattice
    return volume[..., i::2, j::2, k::2]


def shape_logits(shape: Shape) -> Tensor:
    """Return the logits (B, 20, ...) that a shape stands for, of as many voxels as `occupied`."""
    shares = as_fine_as(shape.classes.log_softmax(1), shape.occupied)
    return torch.cat((torch.zeros_like(shape.occupied), shape.occupied + shares), dim=1)
