"""Write and read the whole state of a run as one safetensors file (never pickle)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor

from cigocc_ros.core.errors import ConfigError, DataFileError
from cigocc_ros.core.files import replacing
from cigocc_ros.core.typed_yaml import from_mapping
from cigocc_ros.core.yaml_json import parse_json
from cigocc_ros.model.cigocc import CigOcc
from cigocc_ros.training.arrivals import SetShards
from cigocc_ros.training.schedule import StagePlan, WeightAverage

STATE_FILE = 'state.safetensors'
_PROGRESS, _PRECISION = 'progress', 'precision'


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
    """Samples drawn since the start of the run, by all processes."""
    best_miou: float = -1.0
    best_stage1_iou: float = -1.0
    best_sight: float = -1.0
    shards: tuple[SetShards, ...] = ()
    """Of each set of the mixture, where shards are watched for."""
    num_processes: int = 1


@dataclass
class RunState:
    """All that changes while a stage is trained."""

    model: CigOcc
    average: WeightAverage
    optimizer: torch.optim.Optimizer
    progress: Progress
    silent: set[str] = field(default_factory=set)
    """Losses that were said to teach nothing; not kept over a resume."""
    taught: set[str] = field(default_factory=set)
    """Losses that were not 0 at some logged step; likewise."""


def save_state(path: Path, state: RunState, fabric: Fabric) -> None:
    """Write model, average, optimiser, random states and progress; the file appears whole.

    Every process must call it, the first one writes.
    """
    from safetensors.torch import save_file

    tensors = {f'model/{name}': value for name, value in state.model.state_dict().items()}
    averaged = state.average.model.state_dict()
    tensors |= {f'average/{name}': value for name, value in averaged.items()}
    for index, slots in state.optimizer.state_dict()['state'].items():
        tensors |= {f'optimizer/{index}/{key}': value for key, value in slots.items()}
    tensors |= _random_states(fabric)
    tensors['average_updates'] = torch.tensor(state.average.updates)
    if fabric.is_global_zero:
        metadata = {
            _PROGRESS: json.dumps(asdict(state.progress)),
            _PRECISION: json.dumps(fabric.strategy.precision.state_dict()),
        }
        contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        with replacing(path) as partial:
            save_file(contiguous, partial, metadata=metadata)
    fabric.barrier()


def read_progress(path: Path) -> Progress:
    """Return where the run that wrote `path` stands; raise DataFileError if it cannot be read."""
    try:
        progress = parse_json(_metadata(path, _PROGRESS), str(path))
        return from_mapping(Progress, progress, str(path))
    except ConfigError as error:
        raise DataFileError(str(error)) from error


def resumed_progress(path: Path, plans: list[StagePlan], num_processes: int) -> Progress:
    """Return where to go on; raise DataFileError if the state is of a run with other settings."""
    progress = read_progress(path)
    stages = [plan.stage for plan in plans]
    if progress.stage_index >= len(stages) or stages[progress.stage_index] != progress.stage:
        raise DataFileError(
            f'{path} was written in stage {progress.stage!r} of another run; this one has the '
            f'stages {stages}: resume with the same --stage'
        )
    if progress.num_processes != num_processes:
        raise DataFileError(
            f'{path} has the random states of {progress.num_processes} processes, this run has '
            f'{num_processes}: resume with the same --devices'
        )
    return progress


def load_state(path: Path, state: RunState, fabric: Fabric) -> None:
    """Restore what `save_state` wrote, in place; raise DataFileError if the run was another.

    `state.progress` is left alone: `resumed_progress` reads it before the state can be made.
    """
    from safetensors.torch import load_file

    tensors = load_file(path)
    try:
        state.model.load_state_dict(_under(tensors, 'model/'))
        state.average.model.load_state_dict(_under(tensors, 'average/'))
        state.average.updates = int(tensors['average_updates'])
        _load_optimizer(state.optimizer, _under(tensors, 'optimizer/'))
        fabric.strategy.precision.load_state_dict(json.loads(_metadata(path, _PRECISION)))
        # Copies: torch crashes on the state of a generator that is a view of another tensor.
        torch.set_rng_state(tensors['random/cpu'][fabric.global_rank].clone())
        if fabric.device.type == 'cuda':
            own = tensors['random/cuda'][fabric.global_rank].clone()
            torch.cuda.set_rng_state(own, fabric.device)
    except (KeyError, IndexError, RuntimeError, ValueError) as error:
        raise DataFileError(
            f'{path} does not fit this model and stage; resume with the settings of the run that '
            f'wrote it: {error}'
        ) from error


def _metadata(path: Path, key: str) -> str:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, 'pt') as file:
            return str((file.metadata() or {})[key])
    except (OSError, SafetensorError, KeyError) as error:
        raise DataFileError(f'{path}: not the state of a training run: {error}') from error


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    slots: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, key = name.split('/')
        slots.setdefault(int(index), {})[key] = value
    groups = optimizer.state_dict()['param_groups']
    optimizer.load_state_dict({'state': slots, 'param_groups': groups})


def _random_states(fabric: Fabric) -> dict[str, Tensor]:
    """Return the states of the random number generators, (processes, bytes) uint8 each."""
    own = {'random/cpu': torch.get_rng_state()}
    if fabric.device.type == 'cuda':
        own['random/cuda'] = torch.cuda.get_rng_state(fabric.device)
    every = [own] * fabric.world_size
    if fabric.world_size > 1:
        torch.distributed.all_gather_object(every, own)
    return {name: torch.stack([states[name] for states in every]) for name in own}


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
