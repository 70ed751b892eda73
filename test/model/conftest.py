"""Configs and inputs of the network tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from cigocc_ros.core.camera import CameraModel
from cigocc_ros.core.config import ModelConfig, load_model_config
from cigocc_ros.core.projection import pixel_from_velo, velo_from_pixel

Inputs = tuple[Tensor, Tensor, Tensor, Tensor]


@pytest.fixture(autouse=True)
def _few_threads() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def tiny() -> ModelConfig:
    return load_model_config('tiny')


@pytest.fixture
def tiny_with(tiny: ModelConfig) -> Callable[..., ModelConfig]:
    return lambda **changes: replace(tiny, **changes)


@pytest.fixture(scope='session')
def kitti_like() -> Callable[[ModelConfig], tuple[CameraModel, np.ndarray]]:
    """Return a maker of (camera of the model's input, cam_from_velo) close to KITTI's."""

    def make(config: ModelConfig) -> tuple[CameraModel, np.ndarray]:
        height, width = config.image_size
        focal = 0.57 * width
        camera = CameraModel.from_intrinsics(
            focal, focal, width / 2 - 3, height / 2 - 2, width, height
        )
        return camera, np.array(
            [[0, -1.0, 0, 0.05], [0, 0, -1.0, -0.08], [1.0, 0, 0, -0.27], [0, 0, 0, 1]]
        )

    return make


@pytest.fixture(scope='session')
def make_inputs(kitti_like: Callable) -> Callable[..., Inputs]:
    """Return a maker of random network inputs; the prior covers about half of the pixels."""

    def make(config: ModelConfig, batch: int = 1, prior: float = 0.5, seed: int = 0) -> Inputs:
        generator = torch.Generator().manual_seed(seed)
        height, width = config.image_size
        shape = (batch, height, width)
        image = torch.randint(0, 256, (*shape, 3), generator=generator, dtype=torch.uint8)
        depth = 3.0 + 40.0 * torch.rand(shape, generator=generator)
        known = torch.rand(shape, generator=generator) < prior
        matrix = pixel_from_velo(*kitti_like(config))
        matrices = (matrix, velo_from_pixel(matrix))
        forth, back = (torch.from_numpy(m).float().expand(batch, 3, 4) for m in matrices)
        return image, depth * known, forth.contiguous(), back.contiguous()

    return make
