"""FDDWNet as the engine's own semantic branch: it looks at the image itself, beside the backbone.

Its published weights know real streets from Cityscapes, which a few dozen frames cannot teach.
F_2D is the logarithm of what it thinks of every Cityscapes class in a stride-4 cell; the masks are
read off that by one layer, which starts with what both class sets call the same.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from cigocc_ros.core.class_presets import CITYSCAPES
from cigocc_ros.core.config import FEATURE_STRIDE, ModelConfig
from cigocc_ros.core.labels import CLASS_NAMES
from cigocc_ros.model.fddwnet import Fddwnet, load_published, normalised

CLASS_LOGIT_SHIFT = 3.0
"""log p + 3 is F_2D: 0 is a share of 5 %, about one class in 19."""
LOWEST = -4.0
"""F_2D is never below."""
NAMELESS_BIAS = -2.0
"""Mask logit, at the start of training, of a class that Cityscapes has no name for."""


class FddwnetBranch(nn.Module):
    """F_2D (B, 19, H/4, W/4) of the Cityscapes classes, and mask logits of SemanticKITTI's."""

    def __init__(self, config: ModelConfig) -> None:
        """Take the network config; weights are random, see `load`."""
        super().__init__()
        cells = (side // FEATURE_STRIDE for side in config.image_size)
        self.cell_px = config.fddwnet_cell_px
        self.shown_size = tuple(self.cell_px * cell for cell in cells)
        self.network = Fddwnet()
        self.masks = nn.Conv2d(len(CITYSCAPES), config.num_mask_channels, 1)
        weight, bias = _same_names(config.num_mask_channels)
        with torch.no_grad():
            self.masks.weight.copy_(weight[:, :, None, None])
            assert self.masks.bias is not None
            self.masks.bias.copy_(bias)

    def load(self, path: Path) -> None:
        """Load the published weights; raise DataFileError as `load_published`."""
        load_published(self.network, path)

    def train(self, mode: bool = True) -> FddwnetBranch:
        """Switch to training, except the batch norms: their statistics are those of Cityscapes."""
        super().train(mode)
        self.network.eval()
        return self

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return F_2D (B, 19, H/4, W/4) and mask logits (B, K, H/4, W/4) of uint8 (B, H, W, 3)."""
        shown = normalised(image)
        if self.cell_px != FEATURE_STRIDE:
            shown = functional.interpolate(
                shown, self.shown_size, mode='bilinear', align_corners=False
            )
        pixels = self.network(shown).float().softmax(1)
        shares = functional.avg_pool2d(pixels, self.cell_px)
        features = shares.clamp(min=math.exp(LOWEST - CLASS_LOGIT_SHIFT)).log() + CLASS_LOGIT_SHIFT
        return features, self.masks(features)


def _same_names(num_masks: int) -> tuple[Tensor, Tensor]:
    """Return weights (K, 19) and bias (K,) that say of a class what its namesakes say of it.

    Of several namesakes all but the likeliest are near LOWEST: their sum, less that, is about the
    largest.
    """
    weight, bias = torch.zeros(num_masks, len(CITYSCAPES)), torch.zeros(num_masks)
    for train_id in range(1, num_masks + 1):
        same = [i for i, (_, name) in enumerate(CITYSCAPES) if name == CLASS_NAMES[train_id]]
        if same:
            weight[train_id - 1, same] = 1.0
            bias[train_id - 1] = -LOWEST * (len(same) - 1)
        else:
            bias[train_id - 1] = NAMELESS_BIAS
    return weight, bias
