"""Write and read the whole state of a run as one safetensors file (never pickle)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from cigocc_ros.core.atomic import replacing
from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.mapping import from_mapping
from cigocc_ros.model.cigocc import CigOcc
from cigocc_ros.training.schedule import WeightAverage

STATE_FILE = 'state.safetensors'
_PROGRESS = 'progress'


@dataclass
class Progress:
    """Where a run stands."""

    stage: str = ''
    stage_index: int = 0
    step: int = 0
    """Optimiser steps taken in this stage."""
    elapsed_s: float = 0.0
    """Wall clock spent in this stage."""
    draws: int = 0
    """Samples drawn since the start of the run."""
    best_miou: float = -1.0


def save_state(
    path: Path,
    model: CigOcc,
    average: WeightAverage,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
) -> None:
    """Write model, average, optimiser, random state and progress; the file appears whole."""
    from safetensors.torch import save_file

    tensors = {f'model/{name}': value for name, value in model.state_dict().items()}
    tensors |= {f'average/{name}': value for name, value in average.model.state_dict().items()}
    for index, state in optimizer.state_dict()['state'].items():
        tensors |= {f'optimizer/{index}/{key}': value for key, value in state.items()}
    tensors['random'] = torch.get_rng_state()
    tensors['average_updates'] = torch.tensor(average.updates)
    contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with replacing(path) as partial:
        save_file(contiguous, partial, metadata={_PROGRESS: json.dumps(asdict(progress))})


def read_progress(path: Path) -> Progress:
    """Return where the run that wrote `path` stands; raise DataFileError if it cannot be read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, 'pt') as file:
            metadata = file.metadata() or {}
        return from_mapping(Progress, json.loads(metadata[_PROGRESS]), str(path))
    except (OSError, SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise DataFileError(f'{path}: not the state of a training run: {error}') from error


def load_state(
    path: Path, model: CigOcc, average: WeightAverage, optimizer: torch.optim.Optimizer
) -> None:
    """Restore what `save_state` wrote, in place; raise DataFileError if the run was another."""
    from safetensors.torch import load_file

    tensors = load_file(path)
    try:
        model.load_state_dict(_under(tensors, 'model/'))
        average.model.load_state_dict(_under(tensors, 'average/'))
        average.updates = int(tensors['average_updates'])
        slots: dict[int, dict[str, Tensor]] = {}
        for name, value in _under(tensors, 'optimizer/').items():
            index, key = name.split('/')
            slots.setdefault(int(index), {})[key] = value
        groups = optimizer.state_dict()['param_groups']
        optimizer.load_state_dict({'state': slots, 'param_groups': groups})
        torch.set_rng_state(tensors['random'])
    except (KeyError, RuntimeError, ValueError) as error:
        raise DataFileError(
            f'{path} does not fit this model and stage; resume with the settings of the run that '
            f'wrote it: {error}'
        ) from error


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
