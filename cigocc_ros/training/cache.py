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

from cigocc_ros.core.arrays import Arrays, read_arrays
from cigocc_ros.core.config import ModelConfig
from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.files import replacing
from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID
from cigocc_ros.core.labels import NUM_CLASSES, coarsen_labels
from cigocc_ros.core.projection import pixel_from_velo
from cigocc_ros.core.workers import process_pool
from cigocc_ros.data.kitti_layout import FrameKey, find_sequences
from cigocc_ros.data.kitti_sequence import KittiSequence, Side
from cigocc_ros.evaluation.ground_truth import LabelArrays
from cigocc_ros.runtime.preprocess import ImageFit, fit_camera
from cigocc_ros.training.cells import FEATURE_STRIDE, cell_depth, cell_masks
from cigocc_ros.training.teacher.folder import TeacherCache, TeacherTargets, frame_file
from cigocc_ros.training.views import View

CACHE_VERSION = 3


@dataclass(frozen=True)
class FrameRef:
    """Where one frame comes from and where its cached arrays lie."""

    sequence: Path
    frame_id: str
    cached: Path
    side: Side = 'left'
    truth: Path | None = None
    """Folder of ground truth as `cigocc evaluate` takes it; None for the frame's own volume."""
    teacher: Path | None = None
    """Folder that `cigocc teacher` wrote; None for no teacher."""

    @property
    def is_prepared(self) -> bool:
        """Whether the cached arrays exist and are not older than what they were made of."""
        try:
            written = self.cached.stat().st_mtime
            return all(written >= path.stat().st_mtime for path in self._sources())
        except FileNotFoundError:
            return False

    def _sources(self) -> list[Path]:
        """Return the label file and, where there is one, the teacher's."""
        labels = self.sequence / 'voxels' / f'{self.frame_id}.label'
        if self.truth is not None:
            labels = self.truth / f'{self.sequence.name}_{self.frame_id}.npz'
        if self.teacher is None:
            return [labels]
        said = frame_file(self.teacher, self.sequence.name, self.frame_id, self.side)
        return [labels, said] if said.is_file() else [labels]

    def voxel_labels(self) -> NDArray[np.uint8]:
        """Read the ground truth, (X, Y, Z) train ids uint8, 255 = unknown."""
        if self.truth is None:
            return KittiSequence(self.sequence).voxel_labels(self.frame_id)
        return LabelArrays(self.truth).labels(FrameKey(self.sequence.name, self.frame_id))


def find_frames(
    root: Path,
    config: ModelConfig,
    cache: Path | None = None,
    sequences: Collection[str] | None = None,
    truth: Path | None = None,
    sides: Collection[Side] = ('left',),
    teacher: Path | None = None,
) -> list[FrameRef]:
    """List the frames with voxel labels under root/sequences; raise DataFileError if none.

    They are cached inside `root`, or in a folder of their own inside `cache` where given.
    `sequences` names those to take, None takes all. `truth` is a folder of SS_FFFFFF.npz that
    replaces the volumes of the data set. The right camera is a view of its own where `sides` has
    it and the frame has a lidar scan, which alone gives depth and classes to it. `teacher` is the
    cache of what a teacher said of the left images.
    """
    cache = root / 'cache' if cache is None else cache / _folder_key(root)
    cache = cache / cache_key(config, truth, teacher)
    frames = [
        FrameRef(
            sequence=folder,
            frame_id=frame_id,
            cached=cache / folder.name / _file_name(frame_id, side),
            side=side,
            truth=truth,
            teacher=teacher,
        )
        for folder in find_sequences(root)
        if sequences is None or folder.name in sequences
        for sequence in [KittiSequence(folder)]
        for frame_id in _labelled(sequence, truth)
        for side in sides
        if side == 'left' or (sequence.has_right and sequence.has_velodyne(frame_id))
    ]
    if not frames:
        expected = f'{root}/sequences/*/voxels/*.label' if truth is None else f'{truth}/*_*.npz'
        raise DataFileError(
            f'no labelled frames under {root}: expected {expected}; '
            'write synthetic ones with "cigocc synthesize"'
        )
    return frames


def cache_key(config: ModelConfig, truth: Path | None = None, teacher: Path | None = None) -> str:
    """Name a cache by everything its arrays depend on besides the data."""
    sizes: dict[str, Any] = {
        'version': CACHE_VERSION,
        'image': config.image_size,
        'output': config.output_shape,
        'query': config.query_shape,
    }
    if truth is not None:
        sizes['truth'] = str(truth.resolve())
    if teacher is not None:
        sizes |= {'teacher': str(teacher.resolve()), 'channels': config.semantic_channels}
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
        return read_arrays(frame.cached)
    except DataFileError as error:
        raise DataFileError(
            f'{frame.cached}: not a cached frame ({error}); delete it and prepare again'
        ) from error


def compact_arrays(
    view: View,
    voxels: NDArray[np.uint8],
    config: ModelConfig,
    teacher: TeacherCache | None = None,
) -> Arrays:
    """Compute the arrays of one view; voxels are train ids of SemanticKITTI's grid.

    image (H, W, 3) uint8, pixel_from_velo (3, 4) float64, labels and query_labels uint8, masks
    and mask_valid (19, h, w) bool packed to bits, depth (h, w) float16 metres, measured (H, W)
    float16 metres, 0 = unknown, where there is a pair stereo likewise, and with a teacher
    teacher_features (Csem, h, w) float16, NaN where it says nothing. The teacher's masks count
    where the data has no classes of its own.
    """
    fit = fit_camera(view.camera, config.image_size)
    measured = view.depth(fit)
    masks, valid = cell_masks(view.classes(fit), view.classes_are_sparse)
    arrays: Arrays = {
        'image': fit.apply(view.image()),
        'pixel_from_velo': pixel_from_velo(fit.camera_in, view.sequence.cam_from_velo),
        'labels': _coarse(voxels, config.output_shape),
        'query_labels': _coarse(voxels, config.query_shape),
        'masks': np.packbits(masks),
        'mask_valid': np.packbits(valid),
        'depth': cell_depth(measured).astype(np.float16),
        'measured': measured.astype(np.float16),
    }
    if view.sequence.has_right:
        arrays['stereo'] = fit.apply_depth(view.stereo_depth()).astype(np.float16)
    if teacher is not None:
        targets = _targets(view, teacher, fit, config)
        arrays['teacher_features'] = targets.features.astype(np.float16)
        arrays['masks'] = np.packbits(np.where(valid, masks, targets.masks))
        arrays['mask_valid'] = np.packbits(valid | targets.masks_valid)
    return arrays


def _targets(
    view: View, teacher: TeacherCache, fit: ImageFit, config: ModelConfig
) -> TeacherTargets:
    """Return what the teacher said of the view; nothing of a right image it was not shown."""
    channels, name = config.semantic_channels, view.sequence.name
    if view.side == 'left' or teacher.has(name, view.frame_id, view.side):
        return teacher.load_targets(name, view.frame_id, fit, channels, view.side)
    height, width = (size // FEATURE_STRIDE for size in config.image_size)
    unknown = np.zeros((NUM_CLASSES - 1, height, width), dtype=bool)
    features = np.full((channels, height, width), np.nan, dtype=np.float32)
    return TeacherTargets(features, unknown, unknown)


def _labelled(sequence: KittiSequence, truth: Path | None) -> tuple[str, ...]:
    """Return the frames of a sequence that have ground truth."""
    if truth is None:
        return sequence.voxel_ids
    keys = LabelArrays(truth).frames
    return tuple(key.frame_id for key in keys if key.sequence == sequence.name)


def _file_name(frame_id: str, side: Side) -> str:
    return f'{frame_id}.npz' if side == 'left' else f'{frame_id}_{side}.npz'


def _folder_key(root: Path) -> str:
    """Name a data set, so that sets with sequences of the same name do not share files."""
    return f'{root.resolve().name}-{_digest(str(root.resolve()))}'


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _prepare_one(frame: FrameRef, config: ModelConfig) -> FrameRef:
    import cv2

    cv2.setNumThreads(1)  # the frames are what runs in parallel
    view = View(KittiSequence(frame.sequence), frame.frame_id, frame.side)
    teacher = None if frame.teacher is None else TeacherCache(frame.teacher)
    arrays = compact_arrays(view, frame.voxel_labels(), config, teacher)
    with replacing(frame.cached) as partial, partial.open('wb') as file:
        np.savez(file, **arrays)
    return frame


def _coarse(labels: NDArray[np.uint8], shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    x, y, z = (
        fine // coarse for fine, coarse in zip(SEMANTIC_KITTI_GRID.shape, shape, strict=True)
    )
    return coarsen_labels(labels, (x, y, z)) if (x, y, z) != (1, 1, 1) else labels
