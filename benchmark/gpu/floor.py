"""The least a device can need for a frame: FLOPs and bytes of each stage, counted, not run.

FLOPs are those of convolutions and matrix products, by torch's FlopCounter. Bytes are what the
operators that cannot be merged into another one read and write once each: convolutions, products,
sampling, norms, gathers and scatters. Everything element by element in between is taken as merged,
so the floor is optimistic. float16 counts 2 bytes a number, sampling 4: it stays float32.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from benchmark.speed.measure import OTHER
from cigocc_ros.core.config import load_model_config
from cigocc_ros.model.build import build_model
from cigocc_ros.model.cost import example_inputs

HALF_BYTES, FULL_BYTES = 2, 4
SAMPLING = ('grid_sampler_2d',)
MEETING_MEMORY = (
    'convolution',
    'mm',
    'addmm',
    'bmm',
    'baddbmm',
    'native_layer_norm',
    'native_group_norm',
    'native_batch_norm',
    'index_select',
    'index_put',
    'index',
    'scatter',
    'gather',
    'cumsum',
    'upsample_bilinear2d',
    'upsample_trilinear3d',
    '_softmax',
    'argmax',
)


class _Traffic(TorchDispatchMode):
    """Add up the bytes of operators by the stage that is running."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.stage = OTHER
        self.bytes: dict[str, int] = defaultdict(int)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in SAMPLING or name in MEETING_MEMORY:
            tensors = [leaf for leaf in tree_leaves((args, out)) if isinstance(leaf, Tensor)]
            self.bytes[self.stage] += sum(map(_size(name in SAMPLING), tensors))
        return out


def _size(full: bool) -> Any:
    def size(tensor: Tensor) -> int:
        each = FULL_BYTES if full else min(HALF_BYTES, tensor.element_size())
        return tensor.numel() * each

    return size


def count_stages(config_name: str) -> dict[str, Any]:
    """Return FLOPs and bytes of the stages of a config, and its parameters."""
    config = load_model_config(config_name)
    with torch.device('meta'):
        model = build_model(config).eval().requires_grad_(False)
    traffic = _Traffic()
    for name, part in model.named_children():
        part.register_forward_pre_hook(_entering(traffic, name))
        part.register_forward_hook(_entering(traffic, OTHER))
    with FlopCounterMode(display=False) as flops, traffic, torch.no_grad():
        model(*example_inputs(config, device='meta'))
    by_module = flops.get_flop_counts()
    stages = {
        name: {
            'flops': sum(by_module.get(f'CigOcc.{name}', {}).values()),
            'bytes': traffic.bytes.get(name, 0),
        }
        for name, _ in model.named_children()
    }
    rest = flops.get_total_flops() - sum(stage['flops'] for stage in stages.values())
    stages[OTHER] = {'flops': rest, 'bytes': traffic.bytes.get(OTHER, 0)}
    return {'stages': stages, 'parameters': sum(p.numel() for p in model.parameters())}


def _entering(traffic: _Traffic, stage: str) -> Any:
    def enter(module: nn.Module, *_: Any) -> None:
        traffic.stage = stage

    return enter


def floor_ms(stage: dict[str, float], peaks: dict[str, float]) -> float:
    """Return the longer of computing and moving, milliseconds, with the peaks of a device."""
    computing_s = stage['flops'] / max(peaks['fp16_flops'], peaks['fp32_flops'])
    moving_s = stage['bytes'] / peaks['bytes_per_s']
    return 1e3 * max(computing_s, moving_s)
