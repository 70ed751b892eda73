"""Trainers of the tiny network and what they logged."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from cigocc_ros.core.config import ModelConfig
from cigocc_ros.model.build import build_model
from cigocc_ros.training.cache import FrameRef
from cigocc_ros.training.config import AugmentConfig, TrainConfig
from cigocc_ros.training.devices import make_fabric
from cigocc_ros.training.loop import Trainer
from cigocc_ros.training.run_folder import LOG_FILE
from cigocc_ros.training.scene_dataset import SceneDataset, TrainingStream

PLAIN = AugmentConfig(flip=0, jitter=0, prior_none=0, prior_stereo=0, prior_depth=1)
CONFIG = TrainConfig(
    steps=6, learning_rate=2e-3, warmup_steps=2, log_every=1, validate_every=2, augment=PLAIN
)


def trainer_for(
    frames: Sequence[FrameRef],
    model: ModelConfig,
    out: Path,
    config: TrainConfig = CONFIG,
    devices: int = 1,
) -> Trainer:
    """Return a trainer on the CPU whose weights depend on nothing but `model`."""
    torch.manual_seed(0)
    stream = TrainingStream(frames, model, config.augment, config.seed)
    validation = [SceneDataset(frames, model, prior) for prior in config.validation_priors]
    fabric = make_fabric(config.precision, 'cpu', devices)
    return Trainer(build_model(model), stream, validation, config, out, fabric)


def interrupted_at(trainer: Trainer, step: int) -> Trainer:
    """Let `trainer` be stopped as by Ctrl-C when it starts its step number `step`."""
    count = 0
    inner: Callable[..., Any] = trainer.step

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        if count == step:
            raise KeyboardInterrupt
        return inner(*args, **kwargs)

    trainer.step = counted  # type: ignore[method-assign]
    return trainer


def logged(out: Path, key: str = 'loss') -> list[dict[str, Any]]:
    """Return the lines of log.jsonl that have `key`: losses, or with 'iou' validations."""
    entries = [json.loads(line) for line in (out / LOG_FILE).read_text().splitlines()]
    return [entry for entry in entries if key in entry]
