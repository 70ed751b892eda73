"""Prepare frames once: everything a training sample needs, at the sizes of the model, in one file.

Decoding, stereo matching and label coarsening take about a second a frame; a cached frame loads in
milliseconds. The cache holds nothing random, augmentation comes later.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.atomic import replacing
from cigocc_ros.core.camera import stereo_focal_baseline
from cigocc_ros.core.config import ModelConfig
from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID
from cigocc_ros.core.labels import IGNORE, coarsen_labels
from cigocc_ros.core.projection import pixel_from_velo, project_points
from cigocc_ros.core.workers import process_pool
from cigocc_ros.data.kitti_sequence import KittiSequence, find_sequences
from cigocc_ros.data.stereo_depth import stereo_depth_m
from cigocc_ros.runtime.preprocess import ImageFit, fit_camera
from cigocc_ros.training.cells import cell_depth, cell_masks

CACHE_VERSION = 1
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class FrameRef:
    """Where one frame comes from and where its cached arrays lie."""

    sequence: Path
    frame_id: str
    cached: Path

    @property
    def is_prepared(self) -> bool:
        """Whether the cached arrays exist and are not older than the labels of the frame."""
        labels = self.sequence / 'voxels' / f'{self.frame_id}.label'
        try:
            return self.cached.stat().st_mtime >= labels.stat().st_mtime
        except FileNotFoundError:
            return False


def find_frames(
    root: Path,
    config: ModelConfig,
    cache: Path | None = None,
    sequences: Collection[str] | None = None,
) -> list[FrameRef]:
    """List the frames with voxel labels under root/sequences; raise DataFileError if none.

    They are cached inside `root`, or in a folder of their own inside `cache` where given.
    `sequences` names those to take, None takes all.
    """
    cache = root / 'cache' if cache is None else cache / _folder_key(root)
    cache = cache / cache_key(config)
    frames = [
        FrameRef(folder, frame_id, cache / folder.name / f'{frame_id}.npz')
        for folder in find_sequences(root)
        if sequences is None or folder.name in sequences
        for frame_id in KittiSequence(folder).voxel_ids
    ]
    if not frames:
        raise DataFileError(
            f'no labelled frames under {root}: expected {root}/sequences/*/voxels/*.label; '
            'write synthetic ones with "cigocc synthesize"'
        )
    return frames


def cache_key(config: ModelConfig) -> str:
    """Name a cache by everything its arrays depend on besides the data."""
    sizes = {
        'version': CACHE_VERSION,
        'image': config.image_size,
        'output': config.output_shape,
        'query': config.query_shape,
    }
    return f'{config.name}-{_digest(json.dumps(sizes, sort_keys=True))}'


def prepare_frames(
    frames: list[FrameRef], config: ModelConfig, workers: int | None = None
) -> Iterator[FrameRef]:
    """Cache every frame that is not yet, in parallel processes; yield each as it is done."""
    missing = [frame for frame in frames if not frame.is_prepared]
    workers = min(workers or os.cpu_count() or 1, len(missing))
    if workers <= 1:
        for frame in missing:
            yield _prepare_one(frame, config)
        return
    with process_pool(workers) as pool:
        yield from pool.map(_prepare_one, missing, [config] * len(missing), chunksize=4)


def load_frame(frame: FrameRef) -> Arrays:
    """Read the cached arrays of a frame; raise DataFileError where there are none."""
    try:
        with np.load(frame.cached, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError) as error:
        raise DataFileError(
            f'{frame.cached}: not a cached frame ({error}); delete it and prepare again'
        ) from error


def compact_arrays(sequence: KittiSequence, frame_id: str, config: ModelConfig) -> Arrays:
    """Compute the arrays of one frame.

    image (H, W, 3) uint8, pixel_from_velo (3, 4) float64, labels and query_labels uint8, masks
    (19, h, w) and mask_valid (h, w) bool packed to bits, depth (h, w) float16 metres, and where
    the data has them stereo and measured (H, W) float16 metres, 0 = unknown.
    """
    fit = fit_camera(sequence.camera_left, config.image_size)
    image = sequence.image(frame_id, 'left')
    voxels = sequence.voxel_labels(frame_id)
    measured = fit.apply_depth(measured_depth(sequence, frame_id))
    masks, valid = _class_masks(sequence, frame_id, fit)
    arrays: Arrays = {
        'image': fit.apply(image),
        'pixel_from_velo': pixel_from_velo(fit.camera_in, sequence.cam_from_velo),
        'labels': _coarse(voxels, config.output_shape),
        'query_labels': _coarse(voxels, config.query_shape),
        'masks': np.packbits(masks),
        'mask_valid': np.packbits(valid),
        'depth': cell_depth(measured).astype(np.float16),
        'measured': measured.astype(np.float16),
    }
    if sequence.has_right:
        focal_baseline = stereo_focal_baseline(sequence.camera_left, sequence.camera_right)
        stereo = stereo_depth_m(image, sequence.image(frame_id, 'right'), focal_baseline)
        arrays['stereo'] = fit.apply_depth(stereo).astype(np.float16)
    return arrays


def _folder_key(root: Path) -> str:
    """Name a data set, so that sets with sequences of the same name do not share files."""
    return f'{root.resolve().name}-{_digest(str(root.resolve()))}'


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _prepare_one(frame: FrameRef, config: ModelConfig) -> FrameRef:
    import cv2

    cv2.setNumThreads(1)  # the frames are what runs in parallel
    arrays = compact_arrays(KittiSequence(frame.sequence), frame.frame_id, config)
    with replacing(frame.cached) as partial, partial.open('wb') as file:
        np.savez(file, **arrays)
    return frame


def _coarse(labels: NDArray[np.uint8], shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    x, y, z = (
        fine // coarse for fine, coarse in zip(SEMANTIC_KITTI_GRID.shape, shape, strict=True)
    )
    return coarsen_labels(labels, (x, y, z)) if (x, y, z) != (1, 1, 1) else labels


def _class_masks(
    sequence: KittiSequence, frame_id: str, fit: ImageFit
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the class masks of a frame; nothing is valid where the data has none."""
    if not sequence.has_semantic_image(frame_id):
        unknown = np.full((fit.camera_in.height, fit.camera_in.width), IGNORE, dtype=np.uint8)
        return cell_masks(unknown)
    return cell_masks(fit.apply_nearest(sequence.semantic_image(frame_id), IGNORE))


def measured_depth(sequence: KittiSequence, frame_id: str) -> NDArray[np.float32]:
    """Return the depth image of a frame, else its lidar scan as the left camera sees it."""
    if sequence.has_depth(frame_id):
        return sequence.depth(frame_id)
    camera = sequence.camera_left
    points = sequence.velodyne(frame_id)[:, :3]
    pixel_uv, depth, seen = project_points(points, camera, sequence.cam_from_velo)
    row, column = np.rint(pixel_uv[seen]).astype(np.int64).T[::-1]
    row, column = np.minimum(row, camera.height - 1), np.minimum(column, camera.width - 1)
    nearest = np.full((camera.height, camera.width), np.inf, dtype=np.float32)
    np.minimum.at(nearest, (row, column), depth[seen].astype(np.float32))
    return np.where(np.isfinite(nearest), nearest, np.float32(0))
