"""Streets made of boxes, ray-cast exactly: as arrays, prepared frames or a KITTI folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cigocc_ros.core.camera import CameraModel
from cigocc_ros.core.config import ModelConfig
from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID
from cigocc_ros.core.labels import IGNORE, PALETTE_RGB, coarsen_labels, raw_from_train
from cigocc_ros.core.projection import pixel_from_velo, unproject, velo_from_pixel
from cigocc_ros.training.cells import cell_depth, cell_masks

Box = tuple[float, float, float, float, float, float, int]
CAR, ROAD, BUILDING = 1, 9, 13
GROUND_Z_M = -1.6
BASELINE_M = 0.5
CAM_FROM_VELO = np.array(
    [[0, -1.0, 0, 0.1], [0, 0, -1, -0.1], [1, 0, 0, -0.2], [0, 0, 0, 1]], dtype=np.float64
)


def street(seed: int) -> list[Box]:
    """Return a road, a house on each side and four cars: low corner, high corner, train id."""
    rng = np.random.default_rng(seed)
    boxes: list[Box] = [(-60.0, -60.0, -9.0, 60.0, 60.0, GROUND_Z_M, ROAD)]
    for side in (-1, 1):
        y = side * rng.uniform(9, 14)
        low, high = sorted((y, y + side * 8))
        start, end = rng.uniform(5, 15), rng.uniform(30, 50)
        boxes.append((start, low, GROUND_Z_M, end, high, 4.0, BUILDING))
    for _ in range(4):
        x, y = rng.uniform(6, 40), rng.uniform(-8, 8)
        boxes.append((x, y, GROUND_Z_M, x + 5, y + 3, 0.4, CAR))
    return boxes


def camera_of(height: int, width: int) -> CameraModel:
    """Return a camera of KITTI's field of view."""
    focal = 0.6 * width
    return CameraModel.from_intrinsics(focal, focal, 0.49 * width, 0.45 * height, width, height)


def render(boxes: list[Box], camera: CameraModel) -> tuple[np.ndarray, np.ndarray]:
    """Return depth (H, W) float32, 0 = sky, and train ids (H, W) uint8, 255 = sky."""
    inverse = velo_from_pixel(pixel_from_velo(camera, CAM_FROM_VELO))
    v, u = np.indices((camera.height, camera.width))
    rays = np.stack([u, v, np.ones_like(u)], -1) @ inverse[:, :3].T  # per metre of depth
    depth = np.full(u.shape, np.inf)
    classes = np.full(u.shape, IGNORE, dtype=np.uint8)
    for *bounds, train_id in boxes:
        with np.errstate(divide='ignore', invalid='ignore'):
            planes = [(np.array(b) - inverse[:, 3]) / rays for b in (bounds[:3], bounds[3:])]
        near, far = np.minimum(*planes).max(-1), np.maximum(*planes).min(-1)
        hit = (near < far) & (near > 0.5) & (near < depth) & (near < 100)
        depth[hit], classes[hit] = near[hit], train_id
    return np.where(np.isfinite(depth), depth, 0).astype(np.float32), classes


def voxelise(boxes: list[Box]) -> np.ndarray:
    """Return train ids on the full grid, by voxel centre."""
    grid = SEMANTIC_KITTI_GRID
    labels = np.zeros(grid.shape, dtype=np.uint8)
    parts = zip(grid.origin_m, grid.voxel_size_m, grid.shape, strict=True)
    axes = [origin + size * (np.arange(n) + 0.5) for origin, size, n in parts]
    for *bounds, train_id in boxes:
        ranges = zip(axes, bounds[:3], bounds[3:], strict=True)
        labels[np.ix_(*((axis > low) & (axis < high) for axis, low, high in ranges))] = train_id
    return labels


def paint(depth: np.ndarray, classes: np.ndarray, camera: CameraModel) -> np.ndarray:
    """Return an rgb image (H, W, 3) uint8: class colours with a texture fixed to the world."""
    v, u = np.indices(depth.shape)
    points = unproject(np.stack([u, v], -1), depth, camera, CAM_FROM_VELO)
    cells = np.floor(points * 2).astype(np.int64)
    texture = (cells @ [73856093, 19349663, 83492791]) % 61 - 30
    colors = PALETTE_RGB[np.where(classes == IGNORE, 0, classes)].astype(int)
    return np.clip(colors + texture[..., None], 0, 255).astype(np.uint8)


def prepared_arrays(config: ModelConfig, seed: int) -> dict[str, Any]:
    """Return what training.cache stores for one street."""
    camera = camera_of(*config.image_size)
    boxes = street(seed)
    depth, classes = render(boxes, camera)
    masks, valid = cell_masks(classes)
    labels = voxelise(boxes)
    output, query = (
        coarsen_labels(labels, tuple(np.array(SEMANTIC_KITTI_GRID.shape) // shape))
        for shape in (config.output_shape, config.query_shape)
    )
    return {
        'image': paint(depth, classes, camera),
        'pixel_from_velo': pixel_from_velo(camera, CAM_FROM_VELO),
        'labels': output,
        'query_labels': query,
        'masks': np.packbits(masks),
        'mask_valid': np.packbits(valid),
        'depth': cell_depth(depth).astype(np.float16),
        'measured': depth.astype(np.float16),
        'stereo': depth.astype(np.float16),
    }


def write_kitti_tree(root: Path, seeds: tuple[int, ...], size: tuple[int, int]) -> Path:
    """Write sequence 00 of streets under `root`, every file of the layout that training reads."""
    import cv2

    from cigocc_ros.data import kitti_files

    folder = root / 'sequences' / '00'
    for name in ('image_2', 'image_3', 'depth_2', 'masks_2', 'voxels'):
        (folder / name).mkdir(parents=True, exist_ok=True)
    left = camera_of(*size)
    moved = left.projection.copy()
    moved[0, 3] = -left.intrinsics[0, 0] * BASELINE_M
    right = CameraModel(left.width, left.height, moved)
    rows = dict(zip(('P0', 'P1', 'P2', 'P3'), (left.projection, moved) * 2, strict=True))
    kitti_files.write_calib(folder / 'calib.txt', rows | {'Tr': CAM_FROM_VELO[:3]})
    kitti_files.write_times(folder / 'times.txt', np.arange(len(seeds)) * 0.1)
    for index, seed in enumerate(seeds):
        name, boxes = f'{index:06d}', street(seed)
        depth, classes = render(boxes, left)
        stored = {'depth_2': (depth * 256).astype(np.uint16), 'masks_2': classes}
        stored['image_2'] = paint(depth, classes, left)[..., ::-1]
        stored['image_3'] = paint(*render(boxes, right), right)[..., ::-1]
        for kind, pixels in stored.items():
            cv2.imwrite(str(folder / kind / f'{name}.png'), pixels)
        labels = voxelise(boxes)
        kitti_files.write_voxel_labels(folder / 'voxels' / f'{name}.label', raw_from_train(labels))
        unknown = np.zeros(labels.shape, dtype=bool)
        unknown[:, :, :1] = True
        kitti_files.write_voxel_bits(folder / 'voxels' / f'{name}.invalid', unknown)
    return folder
