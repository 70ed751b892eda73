"""A short way for the segmentation's classes to the voxels, beside the fused features.

The semantic branch says of each stride-4 cell how likely every class is. A query voxel inside the
image takes the log share of the classes at its pixel, and each classifier adds them to its logits
through a gate that it predicts per voxel and class:

    logit_c = o_c + g_c * log softmax(masks)_c,   c = 1..19;   logit_empty = o_0.

A class that is not seen at the pixel thereby loses, while the volume alone decides whether the
voxel is occupied and, by closing the gate, what hides behind the surface. The figure of the paper
has no such edge: there the classes reach the voxels through the fused features only, which a small
network learns slowly.

A gate per class can name a class all by itself, by letting every other one lose, and the volume's
own logits can too: trained on a few streets they know them by heart, and on a street that they do
not know they outvote what is seen. `ClassTrust` says less of each voxel,

    logit_c = o + log softmax(s a + t (W log softmax(masks) + b))_c,   logit_empty = 0,

one trust t in 0..1, one table W that starts as identity, and a share s of the volume's own logits
a that training draws anew for every sample, from 0 up (`class_say`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cigocc_ros.core.labels import EMPTY, NUM_CLASSES
from cigocc_ros.model.geometry import Projection, full_precision
from cigocc_ros.model.lifting import sample_at_voxels
from cigocc_ros.model.logits import log_sum, occupied_logit

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


class ClassTrust(nn.Module):
    """Makes logits of the volume's own and lifted classes, these as far as a voxel trusts them."""

    def __init__(self, channels: int) -> None:
        """Take the width of the voxel features."""
        super().__init__()
        self.trust = nn.Conv3d(channels, 1, 1)
        self.table = nn.Conv3d(NUM_CLASSES - 1, NUM_CLASSES - 1, 1)
        nn.init.zeros_(self.trust.weight)
        identity = torch.eye(NUM_CLASSES - 1)[:, :, None, None, None]
        with torch.no_grad():
            self.trust.bias.fill_(GATE_INIT)  # type: ignore[union-attr]
            self.table.weight.copy_(identity)
            self.table.bias.zero_()  # type: ignore[union-attr]

    def forward(
        self, logits: Tensor, features: Tensor, evidence: Tensor, say: Tensor | float
    ) -> Tensor:
        """Return logits (B, 20, X, Y, Z); `say` is the share of the volume's own classes.

        Whether a voxel is occupied stays what `logits` (B, 20, X, Y, Z) say.
        """
        occupied = occupied_logit(logits)
        seen = torch.sigmoid(self.trust(features)) * self.table(evidence.to(features.dtype))
        classes = logits[:, EMPTY + 1 :] * say + seen
        shares = classes - log_sum(classes)
        return torch.cat((torch.zeros_like(occupied), occupied + shares), dim=1)


def draw_say(batch: int, class_say: float, device: torch.device) -> Tensor:
    """Return the share of the volume's own classes of each sample, (B, 1, 1, 1, 1)."""
    return 2.0 * class_say * torch.rand(batch, 1, 1, 1, 1, device=device)
