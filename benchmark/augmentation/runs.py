"""Train one variant from random weights, then score it on frames seen and not seen."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
import yaml

from cigocc_ros.core.config import ModelConfig, from_mapping, to_mapping
from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.prior import Prior
from cigocc_ros.model.build import build_model
from cigocc_ros.model.cigocc import CigOcc
from cigocc_ros.training.cache import FrameRef, find_frames, turned_frames
from cigocc_ros.training.config import AugmentConfig, LossWeights, TrainConfig
from cigocc_ros.training.devices import make_fabric
from cigocc_ros.training.loop import STOPPED_BY, Trainer
from cigocc_ros.training.preparation import prepare_frames
from cigocc_ros.training.run_folder import score_values
from cigocc_ros.training.scene_dataset import SceneDataset, TrainingStream
from cigocc_ros.training.schedule import plan_stages
from cigocc_ros.training.validation import score

Kind = Literal['eyes', 'joint']
TRAIN, VAL = ('00', '01', '02', '03', '04', '06', '07'), ('05', '09')
PRIORS: tuple[Prior, ...] = ('none', 'stereo')
VARIANTS_FILE = Path(__file__).with_name('variants.yaml')


@dataclass(frozen=True)
class Variant:
    """What differs of AugmentConfig."""

    name: str
    augment: dict[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> AugmentConfig:
        """All of it; turned volumes only where the variant says so."""
        settings = {**to_mapping(AugmentConfig(turned=False)), **self.augment}
        return from_mapping(AugmentConfig, settings, f'variant {self.name}')


@dataclass(frozen=True)
class Experiment:
    """What all variants share."""

    stage: Kind
    model: ModelConfig
    data: Path
    truth: Path | None
    cache: Path
    steps: int

    def __post_init__(self) -> None:
        """Raise ConfigError where joint has no truth to learn from."""
        if self.stage == 'joint' and self.truth is None:
            raise ConfigError('joint needs --truth, which "cigocc voxelize --partial" writes')

    @cached_property
    def frames(self) -> tuple[list[FrameRef], list[FrameRef]]:
        """The frames to train on and to score, prepared."""
        return self._prepared(self._listed(TRAIN)), self._prepared(self._listed(VAL))

    @cached_property
    def turned(self) -> list[FrameRef]:
        """The frames to train on once more for each turned volume, prepared."""
        return self._prepared(turned_frames(self.frames[0]))

    def _listed(self, sequences: Sequence[str]) -> list[FrameRef]:
        volumes = self.stage == 'joint'
        return find_frames(
            self.data, self.model, self.cache, sequences, self.truth, volumes=volumes
        )

    def _prepared(self, frames: list[FrameRef]) -> list[FrameRef]:
        for _ in prepare_frames(frames, self.model, 1):
            pass
        return frames


def load_variants(path: Path = VARIANTS_FILE) -> dict[str, Variant]:
    """Return the variants by name; raise ConfigError for a key that none has."""
    rows = yaml.safe_load(path.read_text(encoding='utf-8'))
    listed = [from_mapping(Variant, row, str(path)) for row in rows]
    return {variant.name: variant for variant in listed}


def run(experiment: Experiment, variant: Variant, seed: int) -> dict[str, Any]:
    """Train and score one variant with one seed; return plain values."""
    seen, unseen = experiment.frames
    augment = variant.config
    drawn = seen + (experiment.turned if augment.turned else [])
    config = settings(experiment.steps, augment, seed)
    started = time.monotonic()
    model = trained(experiment, config, drawn)
    seconds = time.monotonic() - started
    return {
        'stage': experiment.stage,
        'variant': dataclasses.asdict(variant),
        'model': to_mapping(experiment.model),
        'train': to_mapping(config),
        'seed': seed,
        'frames': {'trained': len(drawn), 'scored': len(unseen)},
        'train_s': seconds,
        'scores': {
            'unseen': scores(experiment, model, unseen),
            'seen': scores(experiment, model, seen),
        },
    }


def settings(steps: int, augment: AugmentConfig, seed: int) -> TrainConfig:
    """Return how every variant is trained: one frame a step, the rate of the small networks."""
    return TrainConfig(
        steps=steps,
        learning_rate=2e-3,
        warmup_steps=10,
        seed=seed,
        ema_decay=None,
        log_every=100,
        validate_every=steps,
        losses=LossWeights(scal_sem=0.3, weak_depth=0.05),
        augment=augment,
    )


def trained(experiment: Experiment, config: TrainConfig, frames: Sequence[FrameRef]) -> CigOcc:
    """Return a network trained from random weights."""
    torch.manual_seed(config.seed)
    model, flat = build_model(experiment.model), experiment.stage == 'eyes'
    stream = TrainingStream(frames, experiment.model, config.augment, config.seed, flat=flat)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(model, stream, (), config, Path(folder), make_fabric('fp32', 'cpu'))
        measured = trainer.run(plan_stages(experiment.stage, config))
    if STOPPED_BY in measured[-1]:
        raise SystemExit(f'stopped by {measured[-1][STOPPED_BY]}; runs that are whole are kept')
    return model.eval()


def scores(
    experiment: Experiment, model: CigOcc, frames: Sequence[FrameRef]
) -> Mapping[str, Mapping[str, float]]:
    """Return the scores of the stage on frames as they are, by kind of depth prior."""
    flat, fabric = experiment.stage == 'eyes', make_fabric('fp32', 'cpu')
    return {
        prior: score_values(
            score(
                model,
                SceneDataset(frames, experiment.model, prior, flat),
                0,
                experiment.stage,
                fabric,
            )
        )
        for prior in PRIORS
    }
