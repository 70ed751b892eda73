"""Model folders and frames for the runtime tests."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from fixtures_tiny_model import build_tiny_model_dir

from cigocc_ros.core.camera import CameraModel
from cigocc_ros.core.frames import CameraFrame

CAM_FROM_VELO = np.array([[0.0, -1, 0, 0], [0, 0, -1, -0.08], [1, 0, 0, -0.27], [0, 0, 0, 1]])


@pytest.fixture(scope='session')
def handmade_model(tmp_path_factory) -> Path:
    return build_tiny_model_dir(tmp_path_factory.mktemp('models') / 'handmade')


@pytest.fixture
def model_dir(handmade_model, tmp_path) -> Path:
    """Return a copy that a test may spoil."""
    return Path(shutil.copytree(handmade_model, tmp_path / 'model'))


@pytest.fixture
def frame() -> CameraFrame:
    """Return a frame of all shades of red from a KITTI-like camera of 1241x376."""
    u, v = np.meshgrid(np.arange(1241), np.arange(376))
    image = np.stack([(u + 3 * v) % 256, v % 256, u % 256], axis=-1).astype(np.uint8)
    camera = CameraModel.from_intrinsics(718.9, 718.9, 607.2, 185.2, 1241, 376)
    return CameraFrame(image, camera, CAM_FROM_VELO, 1234567890, 'camera', 'base_link')
