"""What a network costs: `python -m cigocc_ros.model.cost mid` prints parameters and MACs."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from cigocc_ros.core.config import FEATURE_STRIDE, ModelConfig, load_model_config
from cigocc_ros.core.markdown import table
from cigocc_ros.model.build import build_model, count_parameters

FLOP_PER_MAC = 2


@dataclass(frozen=True)
class ModelCost:
    """Learned parameters and multiply-accumulates of one forward pass, whole and per part.

    MACs count convolutions and matrix products; sampling, norms and activations are left out.
    """

    parameters: int
    macs: int
    part_parameters: dict[str, int]
    part_macs: dict[str, int]


def example_inputs(
    config: ModelConfig, batch: int = 1, device: str | torch.device = 'cpu'
) -> tuple[Tensor, ...]:
    """Return zero tensors with the shapes and types of the engine contract."""
    height, width = config.image_size
    inputs = (
        torch.zeros(batch, height, width, 3, dtype=torch.uint8, device=device),
        torch.zeros(batch, height, width, device=device),
        torch.zeros(batch, 3, 4, device=device),
        torch.zeros(batch, 3, 4, device=device),
    )
    cells = (batch, height // FEATURE_STRIDE, width // FEATURE_STRIDE)
    prior = torch.zeros(*cells, dtype=torch.uint8, device=device)
    return (*inputs, prior) if config.semantic_prior else inputs


def measure_cost(config: ModelConfig) -> ModelCost:
    """Count without computing: the network is built and run on the meta device."""
    with torch.device('meta'):
        model = build_model(config).eval().requires_grad_(False)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(*example_inputs(config, device='meta'))
    by_module = counter.get_flop_counts()
    parts = dict(model.named_children())
    return ModelCost(
        parameters=count_parameters(model),
        macs=counter.get_total_flops() // FLOP_PER_MAC,
        part_parameters={name: count_parameters(part) for name, part in parts.items()},
        part_macs={
            name: sum(by_module.get(f'CigOcc.{name}', {}).values()) // FLOP_PER_MAC
            for name in parts
        },
    )


def cost_markdown(name: str, cost: ModelCost) -> str:
    """Return the totals and a table of the parts."""
    total = f'{name}: {cost.parameters / 1e6:.3f} M parameters, {cost.macs / 1e9:.2f} GMAC'
    rows = [
        (part, f'{cost.part_parameters[part]:,d}', f'{macs / 1e9:.3f}')
        for part, macs in cost.part_macs.items()
    ]
    return '\n'.join([total, '', *table(('part', 'parameters', 'GMAC'), rows)]) + '\n'


def main() -> None:
    """Print one table per named config."""
    parser = argparse.ArgumentParser(description='Count parameters and MACs of model configs.')
    parser.add_argument('config', nargs='+', help='config name or YAML file')
    for name in parser.parse_args().config:
        sys.stdout.write(cost_markdown(name, measure_cost(load_model_config(name))))


if __name__ == '__main__':
    main()
