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

    Classifying before the trilinear upsampling is exact (both are linear) and cheaper. A learned
    difference for each of the 8 output voxels of a query voxel is added to the logit of every
    class (`subvoxel`), or to those of all classes but empty alike (`subvoxel_shape`): then it
    moves surfaces and leaves the classes to the smooth part. With the stage-1 logits as residual
    it starts at them and learns what to change; lifted classes are in them already.
    """

    def __init__(self, config: ModelConfig) -> None:
        """Take the network config."""
        super().__init__()
        width = config.channels // 2
        self.trunk = conv3d_block(config.channels, width)
        self.classify = classifier(width)
        self.residual = config.stage1_residual
        if self.residual:
            nn.init.zeros_(self.classify.bias)  # type: ignore[arg-type]
        gated = config.class_evidence == 'gated' and not self.residual
        self.gate = ClassGate(width) if gated else None
        self.refine: nn.Conv3d | None = None
        self.refined_classes = NUM_CLASSES if config.head_upsample == 'subvoxel' else 1
        if config.head_upsample != 'trilinear':
            self.refine = nn.Conv3d(width, self.refined_classes * SUBVOXELS, 1)

    def raise_empty(self, shift: float) -> None:
        """Add `shift` to the logit of empty everywhere, so that fewer voxels are occupied.

        The losses and the half-resolution labels call more occupied than is best for IoU on the
        fine grid; validation frames say by how much. Raises ConfigError unless it is finite.
        """
        if not math.isfinite(shift):
            raise ConfigError(f'expected a finite shift of the logit of empty, found {shift}')
        with torch.no_grad():
            self.classify.bias[EMPTY] += shift  # type: ignore[index]

    def forward(
        self,
        volume: Tensor,
        evidence: Tensor | None = None,
        stage1_logits: Tensor | None = None,
    ) -> Tensor:
        """Map (B, C, X, Y, Z) to logits (B, 20, 2X, 2Y, 2Z).

        `evidence` are the lifted classes (B, 19, X, Y, Z), `stage1_logits` (B, 20, X, Y, Z) what
        is added to, of a config that has them.
        """
        x = self.trunk(volume)
        coarse = self.classify(x)
        if self.gate is not None and evidence is not None:
            coarse = coarse + self.gate(x, evidence)
        if self.residual and stage1_logits is not None:
            coarse = coarse + stage1_logits
        logits = F.interpolate(
            coarse,
            scale_factor=float(HEAD_FACTOR),
            mode='trilinear',
            align_corners=False,
        )
        if self.refine is None:
            return logits
        batch, _, *shape = x.shape
        blocks = self.refine(x).reshape(batch, self.refined_classes, SUBVOXELS, *shape)
        difference = channels_to_space(blocks)
        if self.refined_classes == NUM_CLASSES:
            return logits + difference
        empty, occupied = logits.split([EMPTY + 1, NUM_CLASSES - 1], dim=1)
        return torch.cat([empty - difference, occupied], dim=1)
