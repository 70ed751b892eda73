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
    features = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    features[:, :2] = np.nan
    return plain._replace(teacher_features=features)


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
