"""What a training run is told besides the model and the data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cigocc_ros.core.config import from_mapping
from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.mapping import load_yaml
from cigocc_ros.core.share import config_file

Stage = Literal['1', '2', 'joint']


@dataclass(frozen=True)
class LossWeights:
    """Factor of each term of the total loss; stage 1 and `joint` use the stage1_ ones."""

    stage1_ce: float = 1.0
    """Cross entropy of the query-grid logits."""
    stage1_depth: float = 0.1
    """Likelihood of the measured depth."""
    stage1_masks: float = 1.0
    """Class masks of the semantic branch."""
    ssc: float = 1.0
    scal_geo: float = 1.0
    scal_sem: float = 1.0
    masks: float = 1.0
    """L_bce: class masks of the Extractor."""


@dataclass(frozen=True)
class AugmentConfig:
    """How samples are varied; everything is exact in geometry."""

    flip: float = 0.5
    """Probability of mirroring the world left to right."""
    jitter: float = 0.4
    """Largest relative change of brightness, contrast and saturation."""
    prior_none: float = 0.25
    """Share of samples without depth prior (monocular)."""
    prior_stereo: float = 0.5
    """Share of samples with the stereo matcher's depth."""
    prior_true: float = 0.25
    """Share of samples with measured depth, made noisy and holed."""

    def __post_init__(self) -> None:
        """Raise ConfigError unless the numbers are shares."""
        shares = (self.prior_none, self.prior_stereo, self.prior_true)
        if min(shares) < 0 or sum(shares) <= 0:
            raise ConfigError(f'prior shares must be >= 0 and not all 0, found {shares}')
        if not 0 <= self.flip <= 1 or not 0 <= self.jitter < 1:
            raise ConfigError(
                f'expected flip in [0, 1], jitter in [0, 1); found {self.flip}, {self.jitter}'
            )


@dataclass(frozen=True)
class TrainConfig:
    """One training run: optimiser, schedule, losses, bookkeeping."""

    steps: int
    """Optimiser steps of the whole run; a time budget replaces it."""
    learning_rate: float
    batch_size: int = 1
    seed: int = 0
    stage1_share: float = 0.3
    """Share of the run that `both` spends in stage 1."""
    second_stage: Literal['2', 'joint'] = 'joint'
    """What follows stage 1 in `both`: with stage 1 frozen ('2') or not ('joint')."""
    weight_decay: float = 0.01
    warmup_steps: int = 50
    final_rate: float = 0.01
    """Learning rate at the end of the cosine, relative to its peak."""
    clip_norm: float = 35.0
    """Largest norm of the gradient."""
    ema_decay: float = 0.998
    freeze_norm_share: float = 0.7
    """Share of a stage after which batch norms keep their statistics."""
    precision: Literal['fp32', 'bf16'] = 'fp32'
    num_workers: int = 0
    log_every: int = 10
    validate_every: int = 300
    """Steps between validations; each also writes a checkpoint."""
    validation_frames: int = 32
    """Frames scored at a validation, evenly spread; 0 for all."""
    losses: LossWeights = LossWeights()
    augment: AugmentConfig = AugmentConfig()

    def __post_init__(self) -> None:
        """Raise ConfigError for numbers that cannot work."""
        positive = ('steps', 'batch_size', 'log_every', 'validate_every')
        for name in positive:
            if getattr(self, name) < 1:
                raise ConfigError(f'train config: {name} must be >= 1, not {getattr(self, name)}')
        if self.learning_rate <= 0 or self.clip_norm <= 0:
            raise ConfigError('train config: learning_rate and clip_norm must be positive')
        if not 0 < self.stage1_share < 1 or not 0 <= self.ema_decay < 1:
            raise ConfigError('train config: stage1_share and ema_decay must be shares below 1')


def load_train_config(name_or_path: str | Path) -> TrainConfig:
    """Load config/train/<name>.yaml or a YAML file; raise ConfigError naming what is wrong."""
    path = config_file('train', name_or_path)
    return from_mapping(TrainConfig, load_yaml(path), str(path))
