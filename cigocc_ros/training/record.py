"""Write down what a run was: configs, data, versions and the commit of the code."""

from __future__ import annotations

import json
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from cigocc_ros.core.atomic import write_atomically
from cigocc_ros.core.mapping import to_mapping

if TYPE_CHECKING:
    from cigocc_ros.training.loop import Trainer

RECORD_FILE = 'run.json'


def write_record(out: Path, trainer: Trainer, data: Path, val: Path | None) -> None:
    """Write run.json into the folder of a run."""
    validation = trainer.validation
    record = {
        'model': to_mapping(trainer.model.config),
        'train': to_mapping(trainer.config),
        'data': str(data),
        'val': None if val is None else str(val),
        'train_frames': len(trainer.stream.frames),
        'val_frames': 0 if validation is None else len(validation),
        'torch': version('torch'),
        'commit': code_commit(),
    }
    write_atomically(out / RECORD_FILE, json.dumps(record, indent=2) + '\n')


def code_commit() -> str | None:
    """Return the git commit of the source tree, '+' where it has changes; None without git."""
    package = Path(__file__).resolve().parents[1]
    try:
        commit, changes = (
            subprocess.run(
                ['git', '-C', str(package), *arguments],
                capture_output=True,
                check=True,
                text=True,
                timeout=10,
            ).stdout.strip()
            for arguments in (['rev-parse', 'HEAD'], ['status', '--porcelain', '-uno', '.'])
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ('+' if changes else '')
