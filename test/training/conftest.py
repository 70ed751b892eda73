"""Prepared frames of box scenes with exact geometry, small enough for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cigocc_ros.core.camera import CameraModel
from cigocc_ros.core.config import ModelConfig, load_model_config
from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID
from cigocc_ros.core.labels import PALETTE_RGB, coarsen_labels
from cigocc_ros.core.projection import pixel_from_velo, velo_from_pixel
from cigocc_ros.training.augmentation import Sample
from cigocc_ros.training.cache import FrameRef, cell_depth, cell_masks
from cigocc_ros.training.scene_dataset import make_sample

ROAD, BUILDING, CAR = 9, 13, 1
GROUND_Z_M = -1.6
CAM_FROM_VELO = np.array([[0, -1.0, 0, 0.1], [0, 0, -1, -0.1], [1, 0, 0, -0.2], [0, 0, 0, 1]])


def box_scene(config: ModelConfig, seed: int) -> dict[str, np.ndarray]:
    """Return the prepared arrays of a street with a house on each side and some cars."""
    rng = np.random.default_rng(seed)
    boxes = [(-60.0, -60.0, -9.0, 60.0, 60.0, GROUND_Z_M, ROAD)]
    for side in (-1, 1):
        y = side * rng.uniform(9, 14)
        low, high = sorted((y, y + side * 8))
        boxes.append((rng.uniform(5, 15), low, GROUND_Z_M, rng.uniform(30, 50), high, 4.0, BUILDING))
    for _ in range(4):
        x, y = rng.uniform(6, 40), rng.uniform(-8, 8)
        boxes.append((x, y, GROUND_Z_M, x + 5, y + 3, 0.4, CAR))
    height, width = config.image_size
    camera = CameraModel.from_intrinsics(0.6 * width, 0.6 * width, 0.49 * width, 0.45 * height, width, height)
    matrix = pixel_from_velo(camera, CAM_FROM_VELO)
    depth, classes = _render(boxes, velo_from_pixel(matrix), config.image_size)
    masks, valid = cell_masks(classes)
    noise = rng.integers(-20, 20, (height, width, 3))
    image = np.clip(PALETTE_RGB[np.where(classes == 255, 0, classes)] + noise, 0, 255)
    labels = _voxelise(boxes)
    factors = [
        tuple(256 // n if axis < 2 else 32 // n for axis, n in enumerate(shape))
        for shape in (config.output_shape, config.query_shape)
    ]
    return {
        'image': image.astype(np.uint8),
        'pixel_from_velo': matrix,
        'labels': coarsen_labels(labels, factors[0]),
        'query_labels': coarsen_labels(labels, factors[1]),
        'masks': np.packbits(masks),
        'mask_valid': np.packbits(valid),
        'depth': cell_depth(depth).astype(np.float16),
        'measured': depth.astype(np.float16),
        'stereo': depth.astype(np.float16),
    }


def _render(boxes, inverse, size):
    """Ray-cast axis-aligned boxes: depth (H, W) float32, 0 = sky, and classes, 255 = sky."""
    v, u = np.indices(size)
    rays = np.stack([u, v, np.ones_like(u)], -1) @ inverse[:, :3].T  # per metre of depth
    depth = np.full(size, np.inf)
    classes = np.full(size, 255, dtype=np.uint8)
    for *bounds, train_id in boxes:
        low, high = np.array(bounds[:3]), np.array(bounds[3:])
        with np.errstate(divide='ignore', invalid='ignore'):
            enter, leave = (low - inverse[:, 3]) / rays, (high - inverse[:, 3]) / rays
        near = np.minimum(enter, leave).max(-1)
        far = np.maximum(enter, leave).min(-1)
        hit = (near < far) & (near > 0.5) & (near < depth)
        depth[hit], classes[hit] = near[hit], train_id
    seen = depth < 100
    return np.where(seen, depth, 0).astype(np.float32), np.where(seen, classes, 255).astype(np.uint8)


def _voxelise(boxes):
    labels = np.zeros(SEMANTIC_KITTI_GRID.shape, dtype=np.uint8)
    axes = [
        origin + size * (np.arange(n) + 0.5)
        for origin, size, n in zip(
            SEMANTIC_KITTI_GRID.origin_m,
            SEMANTIC_KITTI_GRID.voxel_size_m,
            SEMANTIC_KITTI_GRID.shape,
            strict=True,
        )
    ]
    for *bounds, train_id in boxes:
        inside = [(a > lo) & (a < hi) for a, lo, hi in zip(axes, bounds[:3], bounds[3:], strict=True)]
        labels[np.ix_(*inside)] = train_id
    return labels


@pytest.fixture(scope='session')
def tiny() -> ModelConfig:
    return load_model_config('tiny')


@pytest.fixture(scope='session')
def arrays(tiny: ModelConfig) -> dict[str, np.ndarray]:
    return box_scene(tiny, seed=3)


@pytest.fixture
def sample(arrays: dict[str, np.ndarray], tiny: ModelConfig) -> Sample:
    return make_sample(arrays, tiny, arrays['measured'].astype(np.float32))


@pytest.fixture(scope='session')
def frames(tiny: ModelConfig, tmp_path_factory: pytest.TempPathFactory) -> list[FrameRef]:
    """Three cached frames of different streets."""
    folder = tmp_path_factory.mktemp('cache')
    refs = []
    for seed in range(3):
        ref = FrameRef(Path('unused'), f'{seed:06d}', folder / f'{seed:06d}.npz')
        np.savez(ref.cached, **box_scene(tiny, seed))
        refs.append(ref)
    return refs
