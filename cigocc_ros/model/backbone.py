"""Shared 2D backbone: a residual network of `transformers` and a small feature pyramid."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import ResNetBackbone, ResNetConfig

from cigocc_ros.core.config import BackboneConfig
from cigocc_ros.core.errors import DataFileError

logger = logging.getLogger(__name__)

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class ImageFeatures(NamedTuple):
    """Pyramid features: fine (B, C, H/4, W/4), coarse (B, C, H/16, W/16)."""

    fine: Tensor
    coarse: Tensor


def conv_block(in_channels: int, out_channels: int, kernel: int = 3) -> nn.Sequential:
    """Return convolution, batch norm (folds into the convolution at export) and ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


class ImageBackbone(nn.Module):
    """Normalises uint8 images and returns features of strides 4 and 16 with equal width."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: BackboneConfig, channels: int) -> None:
        """Build the network with random weights; see `load_backbone_weights`."""
        super().__init__()
        self.register_buffer('mean', _per_channel(IMAGENET_MEAN), persistent=False)
        self.register_buffer('std', _per_channel(IMAGENET_STD), persistent=False)
        self.encoder = ResNetBackbone(
            ResNetConfig(
                embedding_size=config.embedding_size,
                hidden_sizes=list(config.hidden_sizes),
                depths=list(config.depths),
                layer_type=config.layer_type,
                out_features=['stage1', 'stage2', 'stage3'],
            )
        )
        self.laterals = nn.ModuleList(
            nn.Conv2d(width, channels, 1) for width in config.hidden_sizes
        )
        self.smooth = conv_block(channels, channels)

    def forward(self, image: Tensor) -> ImageFeatures:
        """Encode (B, H, W, 3) uint8 rgb."""
        # The cast precedes the transposition: TensorRT refuses to transpose uint8.
        pixels = image.to(torch.float32).permute(0, 3, 1, 2)
        maps = self.encoder((pixels - self.mean) / self.std).feature_maps
        level4, level8, level16 = (
            lateral(x) for lateral, x in zip(self.laterals, maps, strict=True)
        )
        level8 = level8 + F.interpolate(level16, scale_factor=2.0, mode='nearest')
        level4 = level4 + F.interpolate(level8, scale_factor=2.0, mode='nearest')
        return ImageFeatures(self.smooth(level4), level16)


def load_backbone_weights(backbone: ImageBackbone, path: Path) -> None:
    """Load ImageNet weights (safetensors, `transformers` ResNet names, 'resnet.' prefix or none).

    The classifier and the unused fourth stage of a published file are left out; any other missing
    or unexpected name raises DataFileError.
    """
    from safetensors.torch import load_file

    if not path.is_file():
        raise DataFileError(f'backbone weights {path}: no such file')
    tensors = {name.removeprefix('resnet.'): value for name, value in load_file(path).items()}
    left_out = ('classifier.', 'encoder.stages.3.')
    tensors = {name: value for name, value in tensors.items() if not name.startswith(left_out)}
    load_strictly(backbone.encoder, tensors, str(path))
    logger.info('loaded %d backbone tensors from %s', len(tensors), path)


def load_strictly(module: nn.Module, tensors: dict[str, Tensor], where: str) -> None:
    """Load a state dict that must fit exactly; raise DataFileError naming what does not."""
    expected = module.state_dict()
    optional = {name for name in expected if name.endswith('num_batches_tracked')}
    missing = sorted(set(expected) - set(tensors) - optional)
    unexpected = sorted(set(tensors) - set(expected))
    shapes = [
        f'{name}: {tuple(tensors[name].shape)} for {tuple(expected[name].shape)}'
        for name in sorted(set(expected) & set(tensors))
        if tensors[name].shape != expected[name].shape
    ]
    if missing or unexpected or shapes:
        raise DataFileError(
            f'{where}: weights do not fit the config; missing {missing[:8]}, '
            f'unexpected {unexpected[:8]}, wrong shapes {shapes[:8]}'
        )
    module.load_state_dict(tensors, strict=False)


def _per_channel(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values).mul(255.0).reshape(1, 3, 1, 1)
