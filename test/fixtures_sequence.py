"""A tiny sequence folder in the KITTI odometry layout, written file by file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID
from cigocc_ros.data import kitti_files
from cigocc_ros.data.image_files import write_depth_image, write_image, write_semantic_image

P2 = np.array([[160.0, 0, 79.5, 8.0], [0, 160.0, 23.5, -0.5], [0, 0, 1, 0.003]])
P3 = np.array([[160.0, 0, 79.5, -72.0], [0, 160.0, 23.5, 0.5], [0, 0, 1, 0.004]])
TR = np.array([[0.0, -1, 0, -0.01], [0, 0, -1, -0.05], [1, 0, 0, -0.29]])
SIZE = (48, 160)


def build_sequence(path: Path, frames: int = 3) -> Path:
    """Write `frames` frames at 10 Hz: stereo images, depth, lidar and voxel labels."""
    for folder in ('image_2', 'image_3', 'depth_2', 'velodyne', 'voxels'):
        (path / folder).mkdir(parents=True)
    kitti_files.write_calib(path / 'calib.txt', {'P2': P2, 'P3': P3, 'Tr': TR})
    kitti_files.write_times(path / 'times.txt', 0.1 * np.arange(frames))
    for index in range(frames):
        _write_frame(path, index)
    return path


def build_label_images(root: Path, sequence: str, frames: int = 3) -> Path:
    """Write label images of half the size below `root`: rows of the ids 0, 1, ..."""
    folder = root / 'sequences' / sequence
    folder.mkdir(parents=True)
    for index in range(frames):
        ids = np.arange(SIZE[0] // 2, dtype=np.uint8) + np.uint8(index)
        image = np.repeat(ids[:, None], SIZE[1] // 2, axis=1)
        write_semantic_image(folder / f'{index:06d}.png', image)
    return root


def _write_frame(path: Path, index: int) -> None:
    random = np.random.default_rng(index)
    write_image(path / f'image_2/{index:06d}.png', random.integers(0, 256, (*SIZE, 3), np.uint8))
    write_image(path / f'image_3/{index:06d}.png', random.integers(0, 256, (*SIZE, 3), np.uint8))
    depth = np.full(SIZE, 10.0 + index, np.float32)
    depth[0] = 0
    write_depth_image(path / f'depth_2/{index:06d}.png', depth)
    points = random.normal(size=(20, 4)).astype(np.float32)
    kitti_files.write_velodyne(path / f'velodyne/{index:06d}.bin', points)
    raw = np.zeros(SEMANTIC_KITTI_GRID.shape, np.uint16)
    raw[10, 20, 3], raw[11, 20, 3], raw[12, 20, 3] = 40, 10, 70
    kitti_files.write_voxel_labels(path / f'voxels/{index:06d}.label', raw)
    invalid = np.zeros(SEMANTIC_KITTI_GRID.shape, bool)
    invalid[12] = True
    kitti_files.write_voxel_bits(path / f'voxels/{index:06d}.invalid', invalid)
