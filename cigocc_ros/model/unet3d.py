"""3D UNet over the query volume (choice D5): strided convolutions, trilinear up + add."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

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


class ResidualBlock3d(nn.Module):
    """Adds what one convolution block says to its input."""

    def __init__(self, channels: int) -> None:
        """Take the width."""
        super().__init__()
        self.block = conv3d_block(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, X, Y, Z) to the same shape."""
        out: Tensor = x + self.block(x)
        return out


def plain_level(previous: int, width: int, finest: bool) -> nn.Sequential:
    """Return two convolutions, the first of which halves all but the finest level."""
    first = conv3d_block(previous, width, stride=1 if finest else 2)
    return nn.Sequential(first, conv3d_block(width, width))


def residual_level(previous: int, width: int, finest: bool) -> nn.Sequential:
    """Return one residual block at the finest level, where it costs most, else two."""
    if finest:
        return nn.Sequential(ResidualBlock3d(width))
    first = conv3d_block(previous, width, stride=2)
    return nn.Sequential(first, ResidualBlock3d(width), ResidualBlock3d(width))


class UNet3d(nn.Module):
    """`plain`: two convolutions per level on the way down, one on the way up.

    `residual`: every convolution that keeps the size adds to what it takes. With widths of four
    levels the farthest voxels that a voxel hears of lie 43 voxels away, at mid 0.67 of the grid.
    """

    def __init__(
        self,
        in_channels: int,
        widths: tuple[int, ...],
        out_channels: int,
        blocks: Literal['plain', 'residual'] = 'plain',
    ) -> None:
        """Take the channels of the input, of each level (finest first) and of the output."""
        super().__init__()
        make_level = plain_level if blocks == 'plain' else residual_level
        self.stem = nn.Conv3d(in_channels, widths[0], 1)
        self.down = nn.ModuleList()
        previous = widths[0]
        for index, width in enumerate(widths):
            self.down.append(make_level(previous, width, index == 0))
            previous = width
        finer = list(pairwise(widths))[::-1]
        self.lateral = nn.ModuleList(nn.Conv3d(coarse, fine, 1) for fine, coarse in finer)
        if blocks == 'plain':
            self.up = nn.ModuleList(conv3d_block(fine, fine) for fine, _ in finer)
        else:
            self.up = nn.ModuleList(ResidualBlock3d(fine) for fine, _ in finer)
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
        out: Tensor = self.out(x)
        return out
