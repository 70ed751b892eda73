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

from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.files import write_atomically
from cigocc_ros.core.installed import code_commit
from cigocc_ros.core.prior import Prior
from cigocc_ros.evaluation.metrics import SscScores
from cigocc_ros.training.resume import Progress
from cigocc_ros.training.sight_scores import SightScores

RECORD_FILE = 'run.json'
LOG_FILE = 'log.jsonl'
SCORE_NAMES = ('iou', 'miou', 'precision', 'recall')
TENSORBOARD_FOLDER = 'tensorboard'


class RunLog:
    """One JSON object a line, appended; scalars of each stage as TensorBoard curves."""

    def __init__(self, out: Path, enabled: bool = True, wandb_project: str | None = None) -> None:
        """Write into `out`; a log that is not enabled, of a process other than 0, keeps still.

        With `wandb_project` the curves go to Weights & Biases too. Raises ConfigError without the
        library for it.
        """
        self.path = out / LOG_FILE
        self.board = None
        self.wandb_run: Any = None
        if enabled:
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(out / TENSORBOARD_FOLDER))
            if wandb_project is not None:
                self.wandb_run = _start_wandb(wandb_project, out)

    def losses(self, progress: Progress, **values: float) -> None:
        """Write the losses and rates of a step."""
        self._write(progress, values, '')

    def scores(self, progress: Progress, prior: Prior, scores: SscScores | SightScores) -> None:
        """Write the scores of a validation with one kind of depth prior."""
        values = {'prior': prior, **score_values(scores)}
        if isinstance(scores, SightScores):
            values['iou_per_class'] = scores.iou_per_class
            values['depth_near_by_range'] = scores.depth_near_by_range
        else:
            values['iou_per_class'] = scores.by_name()
        self._write(progress, values, f'validation_{prior}/')

    def close(self) -> None:
        """Flush the curves."""
        if self.board is not None:
            self.board.close()
        if self.wandb_run is not None:
            self.wandb_run.finish()

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
        curves = _curves(values, f'stage_{progress.stage}/{group}')
        for tag, number in curves.items():
            self.board.add_scalar(tag, number, progress.step)
        if self.wandb_run is not None:
            self.wandb_run.log(curves | {f'stage_{progress.stage}/step': progress.step})


def score_values(scores: SscScores | SightScores) -> dict[str, Any]:
    """Return the figures that stand for a validation, by name."""
    if isinstance(scores, SightScores):
        return dict(scores.values())
    return {name: getattr(scores, name) for name in SCORE_NAMES}


def _curves(values: Mapping[str, Any], prefix: str) -> dict[str, float]:
    """Return the numbers among values and one level below them, by the names of their curves."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        parts = value if isinstance(value, dict) else {'': value}
        flat |= {f'{prefix}{name}{part and "/"}{part}': number for part, number in parts.items()}
    return {tag: number for tag, number in flat.items() if isinstance(number, (int, float))}


def _start_wandb(project: str, out: Path) -> Any:
    try:
        import wandb
    except ModuleNotFoundError as error:
        raise ConfigError(
            'wandb_project is set, but the library is not installed: pip install wandb, or leave '
            'wandb_project out'
        ) from error
    return wandb.init(project=project, name=out.resolve().name, dir=str(out))


def write_record(out: Path, facts: Mapping[str, Any]) -> None:
    """Write run.json into the folder of a run: what it is given, versions and the commit."""
    record = {**facts, 'torch': version('torch'), 'commit': code_commit()}
    write_atomically(out / RECORD_FILE, json.dumps(record, indent=2) + '\n')


def checkpoint_record(
    facts: Mapping[str, Any],
    progress: Progress,
    scores: Mapping[Prior, SscScores | SightScores],
) -> dict[str, str]:
    """Return what a checkpoint says of its making, JSON values for the header of its file.

    `facts` are those of the run. `scores` are of the validation of these very weights, by kind of
    depth prior; the first decides which weights are the best. None of it is found again from where
    the file lies: a checkpoint may be moved.
    """
    values = {
        **facts,
        'stage': progress.stage,
        'step': progress.step,
        'scores': {prior: score_values(one) for prior, one in scores.items()},
        'progress': asdict(progress),
        'torch': version('torch'),
        'commit': code_commit(),
    }
    return {name: json.dumps(value) for name, value in values.items()}
