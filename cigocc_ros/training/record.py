"""Write down what a run was: configs, data, versions, speed and the commit of the code."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from cigocc_ros.core.atomic import write_atomically
from cigocc_ros.core.mapping import to_mapping
from cigocc_ros.core.provenance import code_commit
from cigocc_ros.training.config import TrainConfig
from cigocc_ros.training.resume import Progress

if TYPE_CHECKING:
    from cigocc_ros.training.loop import Trainer

RECORD_FILE = 'run.json'


def write_record(
    trainer: Trainer,
    data: Sequence[str],
    val: str | None,
    measured: Sequence[dict[str, Any]] = (),
) -> None:
    """Write run.json into the folder of a run; `measured` is what the run returned."""
    validation = trainer.validation
    record = {
        'model': to_mapping(trainer.model.config),
        'train': to_mapping(trainer.config),
        'data': list(data),
        'val': val,
        'train_frames': len(trainer.stream.frames),
        'val_frames': len(validation[0]) if validation else 0,
        'torch': version('torch'),
        'commit': code_commit(),
        'stages': list(measured),
    }
    write_atomically(trainer.out / RECORD_FILE, json.dumps(record, indent=2) + '\n')


def checkpoint_record(config: TrainConfig, progress: Progress) -> dict[str, str]:
    """Return what a checkpoint says of its making, JSON values for the header of its file."""
    values = {
        'train': to_mapping(config),
        'progress': asdict(progress),
        'torch': version('torch'),
        'commit': code_commit(),
    }
    return {name: json.dumps(value) for name, value in values.items()}
