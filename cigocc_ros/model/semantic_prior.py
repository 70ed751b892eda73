"""The class image that a segmentation network outside gives, as the network's own features see it.

The paper's figure has Grounded-SAM's output at run time. Here it may come from any network, or be
missing: 0 is unknown, and what is unknown adds exactly nothing. Where a class is given, it speaks
in the place of the network's own masks on the way to the voxels: of the few images that it was
trained on it knows the classes better than any other network, and would never learn to listen.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cigocc_ros.core.config import ModelConfig
from cigocc_ros.core.labels import NUM_CLASSES

SAID_LOGIT = 4.0
"""Mask logit, at the start of training, of a class that is said at a cell: 3 of 4 in a softmax."""


class SemanticPrior(nn.Module):
    """Embeds the classes of the cells: for F_i, and as class masks."""

    ids: Tensor

    def __init__(self, config: ModelConfig) -> None:
        """Take the network config."""
        super().__init__()
        classes, masks = NUM_CLASSES - 1, config.num_mask_channels
        self.features = nn.Conv2d(classes, config.channels, 1, bias=False)
        self.masks = nn.Conv2d(classes, masks, 1, bias=False)
        said = SAID_LOGIT * torch.eye(masks, classes)
        with torch.no_grad():
            self.masks.weight.copy_(said[:, :, None, None])
        ids = torch.arange(1.0, NUM_CLASSES).reshape(1, -1, 1, 1)
        self.register_buffer('ids', ids, persistent=False)

    def forward(self, semantic_prior: Tensor, own_masks: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, h, w) uint8, 0 = unknown, to what joins F_i (B, C, h, w), and to masks.

        The mask logits (B, K, h, w) are `own_masks` of that shape where nothing is said.
        """
        cells = semantic_prior.to(torch.float32).unsqueeze(1)
        said = (cells == self.ids).to(torch.float32)
        known = said.amax(1, keepdim=True)
        masks = self.masks(said).to(own_masks.dtype) + own_masks * (1.0 - known)
        return self.features(said), masks
