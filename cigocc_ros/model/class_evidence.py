"""A short way for the segmentation's classes to the voxels, beside the fused features.

The semantic branch says of each stride-4 cell how likely every class is. A query voxel inside the
image takes the log share of the classes at its pixel, and each classifier adds them to its logits
through a gate that it predicts per voxel and class:

    logit_c = o_c + g_c * log softmax(masks)_c,   c = 1..19;   logit_empty = o_0.

A class that is not seen at the pixel thereby loses, while the volume alone decides whether the
voxel is occupied and, by closing the gate, what hides behind the surface. The figure of the paper
has no such edge: there the classes reach the voxels through the fused features only, which a small
network learns slowly.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cigocc_ros.core.labels import NUM_CLASSES
from cigocc_ros.model.geometry import Projection, full_precision
from cigocc_ros.model.lifting import sample_at_voxels

LOWEST_LOG_SHARE = -6.0
"""A class can lose no more than this at one pixel, so that one cell cannot rule it out."""
GATE_INIT = 1.0
"""Bias of the gates at the start: sigmoid(1) = 0.73 open."""


def lift_classes(mask_logits: Tensor, geometry: Projection, image_size: tuple[int, int]) -> Tensor:
    """Return the log shares (B, 19, X, Y, Z) of mask logits (B, 19, h, w), 0 outside the image."""
    with full_precision(mask_logits):
        shares = mask_logits.float().log_softmax(1).clamp(min=LOWEST_LOG_SHARE)
        sampled = sample_at_voxels(shares, geometry, image_size)
        return sampled * geometry.in_image.to(torch.float32).unsqueeze(1)


class ClassGate(nn.Module):
    """Adds lifted classes to logits, as far as the voxel's features let them pass."""

    def __init__(self, channels: int) -> None:
        """Take the width of the voxel features."""
        super().__init__()
        self.gate = nn.Conv3d(channels, NUM_CLASSES - 1, 1)
        nn.init.zeros_(self.gate.weight)
        with torch.no_grad():
            self.gate.bias.fill_(GATE_INIT)  # type: ignore[union-attr]

    def forward(self, features: Tensor, evidence: Tensor) -> Tensor:
        """Return what to add to the logits, (B, 20, X, Y, Z); nothing for empty."""
        gated = torch.sigmoid(self.gate(features)) * evidence.to(features.dtype)
        return torch.cat((torch.zeros_like(gated[:, :1]), gated), dim=1)
