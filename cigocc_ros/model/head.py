"""Occupancy head: classify on the query grid, then refine to the output grid."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cigocc_ros.core.config import HEAD_FACTOR, ModelConfig
from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.labels import EMPTY, NUM_CLASSES, VOXEL_COUNTS
from cigocc_ros.model.class_evidence import ClassGate
from cigocc_ros.model.lifting import SUBVOXELS, channels_to_space
from cigocc_ros.model.unet3d import conv3d_block


def class_prior_logits() -> Tensor:
    """Return log class frequencies of the training set, (20,): the classifiers' initial bias."""
    counts = torch.from_numpy(VOXEL_COUNTS)
    return (counts / counts.sum()).log().float()


def classifier(channels: int) -> nn.Conv3d:
    """Return a 1x1x1 classifier that starts at the class frequencies."""
    layer = nn.Conv3d(channels, NUM_CLASSES, 1)
    with torch.no_grad():
        layer.bias.copy_(class_prior_logits())  # type: ignore[union-attr]
    return layer


class OccupancyHead(nn.Module):
    """Logits at twice the query resolution.

    Classifying before the trilinear upsampling is exact (both are linear) and cheaper. `subvoxel`
    adds a learned difference for each of the 8 output voxels of a query voxel.
    """

    def __init__(self, config: ModelConfig) -> None:
        """Take the network config."""
        super().__init__()
        width = config.channels // 2
        self.trunk = conv3d_block(config.channels, width)
        self.classify = classifier(width)
        self.gate = ClassGate(width) if config.class_evidence == 'gated' else None
        self.refine: nn.Conv3d | None = None
        if config.head_upsample == 'subvoxel':
            self.refine = nn.Conv3d(width, NUM_CLASSES * SUBVOXELS, 1)

    def raise_empty(self, shift: float) -> None:
        """Add `shift` to the logit of empty everywhere, so that fewer voxels are occupied.

        The losses and the half-resolution labels call more occupied than is best for IoU on the
        fine grid; validation frames say by how much. Raises ConfigError unless it is finite.
        """
        if not math.isfinite(shift):
            raise ConfigError(f'expected a finite shift of the logit of empty, found {shift}')
        with torch.no_grad():
            self.classify.bias[EMPTY] += shift  # type: ignore[index]

    def forward(self, volume: Tensor, evidence: Tensor | None = None) -> Tensor:
        """Map (B, C, X, Y, Z) to logits (B, 20, 2X, 2Y, 2Z).

        `evidence` are the lifted classes (B, 19, X, Y, Z) of a config that has them.
        """
        x = self.trunk(volume)
        coarse = self.classify(x)
        if self.gate is not None and evidence is not None:
            coarse = coarse + self.gate(x, evidence)
        logits = F.interpolate(
            coarse,
            scale_factor=float(HEAD_FACTOR),
            mode='trilinear',
            align_corners=False,
        )
        if self.refine is None:
            return logits
        batch, _, *shape = x.shape
        blocks = self.refine(x).reshape(batch, NUM_CLASSES, SUBVOXELS, *shape)
        return logits + channels_to_space(blocks)
