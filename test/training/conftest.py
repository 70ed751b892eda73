"""Prepared frames of the tiny config."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fixtures_boxes
import numpy as np
import pytest

from cigocc_ros.core.config import ModelConfig, load_model_config
from cigocc_ros.training.augmentation import Sample
from cigocc_ros.training.cache import FrameRef
from cigocc_ros.training.image_targets import ImageTargets
from cigocc_ros.training.scene_dataset import make_sample


@pytest.fixture(scope='session')
def tiny() -> ModelConfig:
    return load_model_config('tiny')


@pytest.fixture(scope='session')
def arrays(tiny: ModelConfig) -> dict[str, Any]:
    return fixtures_boxes.prepared_arrays(tiny, seed=3)


@pytest.fixture
def sample(arrays: dict[str, Any], tiny: ModelConfig) -> Sample:
    plain = make_sample(arrays, tiny, arrays['measured'].astype(np.float32))
    shape = (tiny.semantic_channels, *plain.depth.shape)
    rng = np.random.default_rng(0)
    features = rng.standard_normal(shape, dtype=np.float32)
    features[:, :2] = np.nan
    weak = rng.random(plain.masks.shape) < 0.5
    extra = ImageTargets(
        masks=weak.astype(np.uint8),
        valid=rng.random(weak.shape) < 0.5,
        depth=plain.depth * 2,
        classes=rng.integers(0, 20, tiny.image_size, dtype=np.uint8),
    )
    return plain._replace(teacher_features=features, extra=extra)


@pytest.fixture(scope='session')
def frames(tiny: ModelConfig, tmp_path_factory: pytest.TempPathFactory) -> list[FrameRef]:
    """Three prepared frames of different streets."""
    folder = tmp_path_factory.mktemp('cache')
    refs = []
    for seed in range(3):
        ref = FrameRef(Path('unused'), f'{seed:06d}', folder / f'{seed:06d}.npz')
        np.savez(ref.cached, **fixtures_boxes.prepared_arrays(tiny, seed))
        refs.append(ref)
    return refs
