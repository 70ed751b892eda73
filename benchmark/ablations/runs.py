"""Train one variant with one seed, score it, and write what came out; finished runs are kept."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmark.ablations.scoring import RealFrames, cost, inner_facts, synthetic_scores
from benchmark.ablations.variants import Variant
from cigocc_ros.core.config import ModelConfig, to_mapping
from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.files import write_atomically
from cigocc_ros.core.installed import code_commit
from cigocc_ros.model.build import build_model, load_checkpoint
from cigocc_ros.training.cache import FrameRef
from cigocc_ros.training.config import TrainConfig
from cigocc_ros.training.devices import make_fabric
from cigocc_ros.training.loop import LATEST, Trainer
from cigocc_ros.training.scene_dataset import TrainingStream
from cigocc_ros.training.schedule import plan_stages

RESULT_FILE = 'result.json'
Result = dict[str, Any]


@dataclass(frozen=True)
class Study:
    """What all runs have in common."""

    model: ModelConfig
    train: TrainConfig
    train_frames: Sequence[FrameRef]
    val_frames: Sequence[FrameRef]
    real: RealFrames | None
    out: Path
    threads: int

    def folder(self, variant: Variant, seed: int) -> Path:
        """Return the folder of one run."""
        return self.out / variant.name / f'seed{seed}'

    def settings(self, variant: Variant, seed: int) -> Result:
        """Return everything that the outcome depends on, besides the code."""
        return {
            'variant': variant.name,
            'model': to_mapping(variant.model_config(self.model)),
            'train': to_mapping(variant.train_config(self.train, seed)),
            'train_frames': len(self.train_frames),
            'val_frames': len(self.val_frames),
            'real_frames': [] if self.real is None else ['_'.join(key) for key in self.real.keys],
        }

    def run(self, variant: Variant, seed: int) -> Result:
        """Return the result of a run, which is made unless it is there.

        Raises DataFileError where the folder holds a run with other settings.
        """
        folder = self.folder(variant, seed)
        settings = self.settings(variant, seed)
        if (folder / RESULT_FILE).is_file():
            return _finished(folder / RESULT_FILE, settings)
        if folder.exists():
            shutil.rmtree(folder)  # an interrupted run: a minute or two, started again
        seconds = self._train(variant, seed, folder)
        result = settings | self._scores(folder / LATEST)
        result |= {'train_s': seconds, 'threads': self.threads, 'commit': code_commit()}
        write_atomically(folder / RESULT_FILE, json.dumps(result, indent=2) + '\n')
        return result

    def _train(self, variant: Variant, seed: int, folder: Path) -> float:
        """Train from random weights; return the seconds it took."""
        model_config = variant.model_config(self.model)
        config = variant.train_config(self.train, seed)
        torch.manual_seed(seed)
        stream = TrainingStream(self.train_frames, model_config, config.augment, seed)
        fabric = make_fabric(config.precision, 'cpu')
        trainer = Trainer(build_model(model_config), stream, (), config, folder, fabric)
        started = time.monotonic()
        trainer.run(plan_stages('both', config))
        return time.monotonic() - started

    def _scores(self, checkpoint: Path) -> Result:
        model = load_checkpoint(checkpoint)
        return {
            'synthetic': synthetic_scores(model, self.val_frames),
            'real': {} if self.real is None else self.real.scores(checkpoint, self.threads),
            'facts': inner_facts(model, self.val_frames),
            'cost': cost(model),
        }


def load_results(out: Path) -> list[Result]:
    """Return all finished runs below `out`; raise DataFileError if there are none."""
    paths = sorted(out.glob(f'*/seed*/{RESULT_FILE}'))
    if not paths:
        raise DataFileError(f'no {out}/VARIANT/seedN/{RESULT_FILE}: no run is finished')
    return [json.loads(path.read_text(encoding='utf-8')) for path in paths]


def _finished(path: Path, settings: Result) -> Result:
    result: Result = json.loads(path.read_text(encoding='utf-8'))
    differing = sorted(key for key, value in settings.items() if result.get(key) != value)
    if differing:
        raise DataFileError(
            f'{path} was made with other settings ({", ".join(differing)}); '
            'choose another --out, or delete that folder'
        )
    return result
