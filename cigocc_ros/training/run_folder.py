"""What a run writes into its folder: run.json of what it is, log.jsonl of how it goes.

The log is written for TensorBoard as well.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cigocc_ros.core.files import write_atomically
from cigocc_ros.core.installed import code_commit
from cigocc_ros.core.prior import Prior
from cigocc_ros.core.typed_yaml import to_mapping
from cigocc_ros.evaluation.metrics import SscScores
from cigocc_ros.training.config import TrainConfig
from cigocc_ros.training.resume import Progress

RECORD_FILE = 'run.json'
LOG_FILE = 'log.jsonl'
TENSORBOARD_FOLDER = 'tensorboard'


class RunLog:
    """One JSON object a line, appended; scalars of each stage as TensorBoard curves."""

    def __init__(self, out: Path, enabled: bool = True) -> None:
        """Write into `out`; a log that is not enabled, of a process other than 0, keeps still."""
        self.path = out / LOG_FILE
        self.board = None
        if enabled:
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(out / TENSORBOARD_FOLDER))

    def losses(self, progress: Progress, **values: float) -> None:
        """Write the losses and rates of a step."""
        self._write(progress, values, '')

    def scores(self, progress: Progress, prior: Prior, scores: SscScores) -> None:
        """Write the scores of a validation with one kind of depth prior."""
        values = {
            'prior': prior,
            'iou': scores.iou,
            'miou': scores.miou,
            'precision': scores.precision,
            'recall': scores.recall,
            'iou_per_class': scores.by_name(),
        }
        self._write(progress, values, f'validation_{prior}/')

    def close(self) -> None:
        """Flush the curves."""
        if self.board is not None:
            self.board.close()

    def _write(self, progress: Progress, values: dict[str, Any], group: str) -> None:
        if self.board is None:
            return
        head = {
            'stage': progress.stage,
            'step': progress.step,
            'time_s': round(progress.elapsed_s, 1),
        }
        with self.path.open('a', encoding='utf-8') as file:
            file.write(json.dumps(head | values) + '\n')
        for name, value in values.items():
            parts = value if isinstance(value, dict) else {'': value}
            for part, number in parts.items():
                if isinstance(number, (int, float)):
                    tag = f'stage_{progress.stage}/{group}{name}{part and "/"}{part}'
                    self.board.add_scalar(tag, number, progress.step)


def write_record(out: Path, facts: Mapping[str, Any]) -> None:
    """Write run.json into the folder of a run: what it is given, versions and the commit."""
    record = {**facts, 'torch': version('torch'), 'commit': code_commit()}
    write_atomically(out / RECORD_FILE, json.dumps(record, indent=2) + '\n')


def checkpoint_record(config: TrainConfig, progress: Progress) -> dict[str, str]:
    """Return what a checkpoint says of its making, JSON values for the header of its file."""
    values = {
        'train': to_mapping(config),
        'progress': asdict(progress),
        'torch': version('torch'),
        'commit': code_commit(),
    }
    return {name: json.dumps(value) for name, value in values.items()}
