"""Which processes and devices a run takes, and the precision of its forward pass (Fabric)."""

from __future__ import annotations

from typing import Any, Literal

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import CheckpointIO, ClusterEnvironment
from lightning_fabric.plugins import Precision as PrecisionPlugin
from lightning_fabric.plugins.precision import MixedPrecision
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import nn

from cigocc_ros.core.errors import ConfigError
from cigocc_ros.training.config import Precision

Accelerator = Literal['auto', 'cpu', 'cuda']


class ExactInputs(MixedPrecision):
    """Autocast that leaves the inputs alone.

    Fabric's own rounds them first, and a calibration of 8 bits misses by several pixels.
    """

    def convert_input(self, data: Any) -> Any:
        """Return `data` as it is."""
        return data


def make_fabric(
    precision: Precision = 'fp32', accelerator: Accelerator = 'auto', devices: int = 1
) -> Fabric:
    """Return what moves tensors and starts processes; `auto` takes CUDA where there is some.

    Several devices are as many fresh processes with DistributedDataParallel: one per GPU, or, on
    `cpu`, that share the machine. Raises ConfigError for what the machine does not have.
    """
    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    kind = ('cuda' if num_gpus else 'cpu') if accelerator == 'auto' else accelerator
    if devices < 1:
        raise ConfigError(f'expected at least 1 device, found {devices}')
    if kind == 'cuda' and devices > num_gpus:
        raise ConfigError(
            f'{devices} CUDA devices wanted, PyTorch {torch.__version__} sees {num_gpus}'
        )
    if precision == 'fp16' and kind == 'cpu':
        raise ConfigError('precision fp16 needs a CUDA device; use bf16 or fp32 on the CPU')
    return Fabric(
        accelerator=kind,
        devices=devices,
        strategy=DDPStrategy(start_method='spawn') if devices > 1 else 'auto',
        plugins=[*_precision_plugins(precision, kind)],
    )


def _precision_plugins(
    precision: Precision, kind: str
) -> list[PrecisionPlugin | ClusterEnvironment | CheckpointIO]:
    if precision == 'fp32':
        return []
    return [ExactInputs('bf16-mixed' if precision == 'bf16' else '16-mixed', kind)]


def channels_last(model: nn.Module) -> None:
    """Lay the kernels of convolutions out with their channels last, as tensor cores read them.

    Values and checkpoints stay the same. Per layer, because torch has a layout for images and
    another one for volumes.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            flat = isinstance(module, nn.Conv2d)
            layout = torch.channels_last if flat else torch.channels_last_3d
            module.weight.data = module.weight.data.contiguous(memory_format=layout)
