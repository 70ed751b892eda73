"""3D UNet over the query volume (choice D5): strided convolutions, trilinear up + add."""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

NORM_GROUPS = 8


def conv3d_block(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    """Return 3x3x3 convolution, group norm and ReLU."""
    return nn.Sequential(
        nn.Conv3d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False),
        nn.GroupNorm(NORM_GROUPS, out_channels),
        nn.ReLU(),
    )


class UNet3d(nn.Module):
    """Two convolutions per level on the way down, one on the way up."""

    def __init__(self, in_channels: int, widths: tuple[int, ...], out_channels: int) -> None:
        """Take the channels of the input, of each level (finest first) and of the output."""
        super().__init__()
        self.stem = nn.Conv3d(in_channels, widths[0], 1)
        self.down = nn.ModuleList()
        previous = widths[0]
        for level, width in enumerate(widths):
            first = conv3d_block(previous, width, stride=1 if level == 0 else 2)
            self.down.append(nn.Sequential(first, conv3d_block(width, width)))
            previous = width
        finer = list(pairwise(widths))[::-1]
        self.lateral = nn.ModuleList(nn.Conv3d(coarse, fine, 1) for fine, coarse in finer)
        self.up = nn.ModuleList(conv3d_block(fine, fine) for fine, _ in finer)
        self.out = nn.Conv3d(widths[0], out_channels, 1)

    def forward(self, volume: Tensor) -> Tensor:
        """Map (B, Cin, X, Y, Z) to H (B, Cout, X, Y, Z)."""
        x = self.stem(volume)
        skips = []
        for level in self.down:
            x = level(x)
            skips.append(x)
        skips.pop()
        for lateral, up in zip(self.lateral, self.up, strict=True):
            raised = F.interpolate(
                lateral(x), scale_factor=2.0, mode='trilinear', align_corners=False
            )
            x = up(skips.pop() + raised)
        return self.out(x)
