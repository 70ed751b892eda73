"""FDDWNet: real-time segmentation of street scenes by factorised, dilated, depthwise convolutions.

An independent implementation of arXiv 1911.00632. Its modules carry the names of the state dicts
that the public repository zh320/realtime-semantic-segmentation-pytorch publishes (Apache-2.0,
trained on Cityscapes), so that those files load by name; it was checked against reference
activations of such a file (`test/model/test_fddwnet.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from cigocc_ros.core.errors import DataFileError
from cigocc_ros.model.backbone import load_strictly

CITYSCAPES_CLASSES = 19
STRIDE = 8
"""Images must be divisible by it: three halvings."""
MEAN_RGB, STD_RGB = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of rgb / 255: ImageNet's, as the published weights were trained."""
_MIDDLE, _DEEP = (1, 2, 5, 9) * 2, (2, 5, 9, 17) * 2


class Halving(nn.Module):
    """A convolution of stride 2 beside a max pooling, concatenated: (C, H, W) -> (O, H/2, W/2)."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        learned = out_channels - channels
        self.conv = nn.Sequential(
            nn.Conv2d(channels, learned, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(learned),
            nn.ReLU(),
        )
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, O, H/2, W/2)."""
        return torch.cat([self.conv(features), self.pool(features)], dim=1)


class Unit(nn.Module):
    """The paper's extremely efficient residual module; the second half is dilated."""

    def __init__(self, channels: int, dilation: int = 1) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            *_factorised(channels, 1),
            nn.Sequential(*_pointwise(channels), nn.ReLU()),
            *_factorised(channels, dilation),
            nn.Sequential(*_pointwise(channels)),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape."""
        return torch.relu(features + self.conv(features))


class Doubling(nn.Module):
    """A transposed convolution: (C, H, W) -> (O, 2H, 2W).

    Computed as a convolution that gives the four pixels of every cell, because TensorRT has no
    tactic for transposed ones that are fused with a cast. Of stride 2 and kernel k, along one
    axis: y[2i] = k[1] x[i], y[2i + 1] = k[2] x[i] + k[0] x[i + 1].
    """

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.up_conv = nn.Sequential(
            nn.ConvTranspose2d(channels, out_channels, 3, stride=2, padding=1, output_padding=1),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, O, 2H, 2W)."""
        transposed, norm, activation = self.up_conv
        assert isinstance(transposed, nn.ConvTranspose2d) and isinstance(norm, nn.BatchNorm2d)
        if norm.training:  # what is exported never is
            learning: Tensor = self.up_conv(features)
            return learning
        bias = transposed.bias
        assert bias is not None
        kernels, bias = _folded(_by_phase(transposed.weight), bias, norm)
        cells = functional.conv2d(functional.pad(features, (0, 1, 0, 1)), kernels, bias)
        return functional.pixel_shuffle(activation(cells), 2)


def _folded(kernels: Tensor, bias: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return kernels (4 O, C, 2, 2) and bias (4 O,) with a norm that keeps its statistics in them.

    Published variances reach 1.8e5, which float16 does not hold.
    """
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None and variance is not None
    scale = norm.weight * (variance + norm.eps).rsqrt()
    shifted = (bias - mean) * scale + norm.bias
    return kernels * scale.repeat_interleave(4)[:, None, None, None], shifted.repeat_interleave(4)


def _by_phase(weight: Tensor) -> Tensor:
    """Return transposed kernels (C, O, 3, 3) as those of the four pixels, (4 O, C, 2, 2)."""
    kernel = weight.transpose(0, 1)
    phases = [_taps(_taps(kernel, -2, row), -1, column) for row in (0, 1) for column in (0, 1)]
    return torch.stack(phases, dim=1).flatten(0, 1)


def _taps(kernel: Tensor, axis: int, phase: int) -> Tensor:
    """Return what x[i] and x[i + 1] give y[2i + phase], of a kernel of three along `axis`."""
    first, middle, last = kernel.split(1, dim=axis)
    pair = (middle, torch.zeros_like(middle)) if phase == 0 else (last, first)
    return torch.cat(pair, dim=axis)


class Fddwnet(nn.Module):
    """Logits of the Cityscapes classes at the size of the image; 0.77 M parameters."""

    def __init__(self, classes: int = CITYSCAPES_CLASSES) -> None:
        super().__init__()
        self.layer1 = Halving(3, 16)
        self.layer2 = Halving(16, 64)
        self.layer3_7 = _units(64, [1] * 5)
        self.layer8 = Halving(64, 128)
        self.layer9_16 = _units(128, _MIDDLE)
        self.layer17_24 = _units(128, _DEEP)
        self.layer25 = Doubling(128, 64)
        self.layer26_27 = _units(64, [1, 1])
        self.layer28 = Doubling(64, 16)
        self.layer29_30 = _units(16, [1, 1])
        self.layer31 = Doubling(16, classes)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, classes, H, W) of normalised images (B, 3, H, W)."""
        quarter = self.layer3_7(self.layer2(self.layer1(image)))
        eighth = self.layer17_24(self.layer9_16(self.layer8(quarter)))
        quarter = self.layer26_27(self.layer25(eighth)) + quarter
        logits: Tensor = self.layer31(self.layer29_30(self.layer28(quarter)))
        return logits


def normalised(image: Tensor) -> Tensor:
    """Return rgb bytes (B, H, W, 3) as the network wants them, (B, 3, H, W) float32."""
    mean = torch.tensor(MEAN_RGB, device=image.device)
    std = torch.tensor(STD_RGB, device=image.device)
    return ((image.to(torch.float32) / 255.0 - mean) / std).permute(0, 3, 1, 2).contiguous()


def load_fddwnet(path: Path) -> Fddwnet:
    """Return the network with weights of a file, in eval mode; raises as `load_published`."""
    network = Fddwnet()
    load_published(network, path)
    return network.eval()


def load_published(network: Fddwnet, path: Path) -> None:
    """Load weights of a .safetensors file.

    Raises DataFileError where the file is none, or is of another network.
    """
    load_strictly(network, _stored(path), str(path))


def _stored(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise DataFileError(f'{path}: no such file; docs/teacher.md says where weights are from')
    try:
        return load_file(path)
    except SafetensorError as error:
        raise DataFileError(f'{path}: not a whole safetensors file: {error}') from error


def _units(channels: int, dilations: Sequence[int]) -> nn.Sequential:
    return nn.Sequential(*(Unit(channels, dilation) for dilation in dilations))


def _factorised(channels: int, dilation: int) -> tuple[nn.Sequential, nn.Sequential]:
    """Return depthwise convolutions along columns, then along rows, each with its norm."""
    column, row = (
        nn.Sequential(
            nn.Conv2d(
                channels,
                channels,
                kernel,
                padding=(kernel[0] // 2 * dilation, kernel[1] // 2 * dilation),
                dilation=dilation,
                groups=channels,
                bias=False,
            ),
            nn.BatchNorm2d(channels),
        )
        for kernel in ((3, 1), (1, 3))
    )
    return column, row


def _pointwise(channels: int) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    return nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels)
