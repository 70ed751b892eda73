"""Prepare frames once: everything a training sample needs, at the sizes of the model.

Decoding, stereo matching and label coarsening take most of a second a frame; a prepared one loads
in milliseconds. Nothing in it is random, augmentation comes later. Depth and labels are of few
values and pack to a tenth; the teacher's features stay on its own grid.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.arrays import Arrays
from cigocc_ros.core.config import FEATURE_STRIDE, ModelConfig
from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID
from cigocc_ros.core.labels import NUM_CLASSES, coarsen_labels
from cigocc_ros.core.projection import pixel_from_velo
from cigocc_ros.core.workers import process_pool
from cigocc_ros.data.kitti_layout import FrameKey
from cigocc_ros.data.kitti_sequence import KittiSequence
from cigocc_ros.data.label_images import LabelImages
from cigocc_ros.data.partial_truth import read_turned
from cigocc_ros.data.stereo_config import DEFAULT_STEREO, StereoConfig
from cigocc_ros.evaluation.ground_truth import LabelArrays
from cigocc_ros.training.cache import FrameRef, store_frame
from cigocc_ros.training.cells import cell_depth, cell_masks
from cigocc_ros.training.image_targets import image_arrays
from cigocc_ros.training.teacher.folder import TeacherCache, TeacherTargets
from cigocc_ros.training.views import FrameView

OPEN_SEQUENCES = 2
"""A worker goes through one sequence after the other."""
CHUNK = 8
"""Frames that a worker takes at a time: of one sequence, mostly."""


def prepare_frames(
    frames: list[FrameRef],
    config: ModelConfig,
    workers: int | None = None,
    stereo: StereoConfig = DEFAULT_STEREO,
) -> Iterator[FrameRef]:
    """Prepare every frame that is not yet, in parallel processes; yield each as it is done."""
    frames = [frame for frame in frames if not frame.is_prepared]
    workers = min(workers or os.cpu_count() or 1, len(frames))
    for opened in (_opened, _teacher, _truth):  # what this process opened for an earlier call
        opened.cache_clear()
    prepare = functools.partial(_prepare_one, config=config, stereo=stereo)
    if workers <= 1:
        yield from map(prepare, frames)
        return
    with process_pool(workers) as pool:
        yield from pool.map(prepare, frames, chunksize=CHUNK)


def compact_arrays(
    view: FrameView,
    voxels: NDArray[np.uint8],
    config: ModelConfig,
    teacher: TeacherCache | None = None,
    stereo: StereoConfig = DEFAULT_STEREO,
    classes: NDArray[np.uint8] | None = None,
    velo_from_grid: NDArray[np.float64] | None = None,
) -> Arrays:
    """Compute the arrays of one view; voxels are train ids of SemanticKITTI's grid.

    image (H, W, 3) uint8, pixel_from_velo (3, 4) float64, labels and query_labels uint8, masks
    and mask_valid (19, h, w) bool packed to bits, depth (h, w) float16 metres, measured (H, W)
    float16 metres, 0 = unknown, where there is a pair stereo and where a stereo network has been
    depth_stereo likewise. With a teacher teacher_grid, teacher_rows, teacher_columns and, where
    the student is wider, teacher_mixing: see TeacherTargets. The teacher's masks count where the
    data has no classes of its own. With `classes`, train ids (h, w) of a segmentation network,
    semantic_prior (h, w) uint8. `velo_from_grid` (4, 4) is where the grid of `voxels` lies.
    """
    arrays = _seen_arrays(view, view.depth, stereo, classes, velo_from_grid)
    arrays['labels'] = _coarse(voxels, config.output_shape)
    arrays['query_labels'] = _coarse(voxels, config.query_shape)
    masks, valid = cell_masks(view.classes, view.classes_are_sparse)
    if teacher is not None:
        targets = _targets(view, teacher, config)
        masks = np.where(valid, masks, targets.masks)
        valid = valid | targets.masks_valid
        arrays |= _teacher_arrays(targets)
    return arrays | {'masks': np.packbits(masks), 'mask_valid': np.packbits(valid)}


def flat_arrays(
    view: FrameView,
    config: ModelConfig,
    teacher: TeacherCache | None = None,
    stereo: StereoConfig = DEFAULT_STEREO,
    labels: LabelImages | None = None,
) -> Arrays:
    """Compute the arrays of one view without a volume: those above but the labels.

    Masks are of the data alone; what the teacher or `labels` say of cells that the data does not
    know, and a stereo network of their depth, are targets of their own, see image_arrays.
    """
    nothing = np.zeros(config.image_size, dtype=np.float32)
    depth = view.depth if view.has_measured_depth else nothing
    key = FrameKey(view.sequence.name, view.frame_id)
    classes = None if labels is None else labels.train_ids(key)
    arrays = _seen_arrays(view, depth, stereo, classes)
    targets = None if teacher is None else _targets(view, teacher, config)
    if targets is not None:
        arrays |= _teacher_arrays(targets)
    return arrays | image_arrays(view, labels, targets)


def _seen_arrays(
    view: FrameView,
    depth: NDArray[np.float32],
    stereo: StereoConfig,
    classes: NDArray[np.uint8] | None,
    velo_from_grid: NDArray[np.float64] | None = None,
) -> Arrays:
    """Return image, calibration, depth (H, W) and priors of a view."""
    fit, cam_from_grid = view.fit, view.sequence.cam_from_velo
    if velo_from_grid is not None:
        cam_from_grid = cam_from_grid @ velo_from_grid
    arrays: Arrays = {
        'image': fit.apply(view.image),
        'pixel_from_velo': pixel_from_velo(fit.camera_in, cam_from_grid),
        'depth': cell_depth(depth).astype(np.float16),
        'measured': depth.astype(np.float16),
    }
    if view.has_pair:
        arrays['stereo'] = fit.apply_depth(view.matched_depth(stereo)).astype(np.float16)
    if view.has_stereo_depth:
        network_depth = view.sequence.stereo_depth(view.frame_id)
        arrays['depth_stereo'] = fit.apply_depth(network_depth).astype(np.float16)
    if classes is not None:
        arrays['semantic_prior'] = fit.apply_classes(classes)
    return arrays


def _teacher_arrays(targets: TeacherTargets) -> Arrays:
    arrays: Arrays = {
        'teacher_grid': targets.grid,
        'teacher_rows': targets.rows,
        'teacher_columns': targets.columns,
    }
    return arrays if targets.mixing is None else arrays | {'teacher_mixing': targets.mixing}


def _targets(view: FrameView, teacher: TeacherCache, config: ModelConfig) -> TeacherTargets:
    """Return what the teacher said of the view; nothing of a right image it was not shown."""
    channels, name = config.semantic_channels, view.sequence.name
    if view.side == 'left' or teacher.has(name, view.frame_id, view.side):
        return teacher.load_targets(name, view.frame_id, view.fit, channels, view.side)
    height, width = (size // FEATURE_STRIDE for size in config.image_size)
    unknown = np.zeros((NUM_CLASSES - 1, height, width), dtype=bool)
    rows, columns = (np.zeros((cells, 1), dtype=np.float32) for cells in (height, width))
    grid = np.zeros((channels, 1, 1), dtype=np.float16)
    return TeacherTargets(grid, rows, columns, None, unknown, unknown)


def _prepare_one(frame: FrameRef, config: ModelConfig, stereo: StereoConfig) -> FrameRef:
    import cv2

    cv2.setNumThreads(1)  # the frames are what runs in parallel
    fingerprint = frame.fingerprint()  # of before: what changes meanwhile is prepared again
    sequence = _opened(frame.sequence)
    view = FrameView(sequence, frame.frame_id, config.image_size, frame.side)
    teacher = None if frame.teacher is None else _teacher(frame.teacher)
    if not frame.volumes:
        flat = flat_arrays(view, config, teacher, stereo, frame.semantics)
        store_frame(frame, flat, fingerprint)
        return frame
    key = FrameKey(sequence.name, frame.frame_id)
    classes = None if frame.semantics is None else frame.semantics.train_ids(key)
    voxels, pose = _voxels(frame, sequence)
    arrays = compact_arrays(view, voxels, config, teacher, stereo, classes, pose)
    store_frame(frame, arrays, fingerprint)
    return frame


@functools.lru_cache(maxsize=OPEN_SEQUENCES)
def _opened(folder: Path) -> KittiSequence:
    return KittiSequence(folder)


@functools.lru_cache(maxsize=1)
def _teacher(folder: Path) -> TeacherCache:
    return TeacherCache(folder)


@functools.lru_cache(maxsize=1)
def _truth(folder: Path) -> LabelArrays:
    return LabelArrays(folder)


def _voxels(
    frame: FrameRef, sequence: KittiSequence
) -> tuple[NDArray[np.uint8], NDArray[np.float64] | None]:
    """Read the ground truth, (X, Y, Z) train ids uint8, 255 = unknown, and its velo_from_grid.

    The latter is None where the grid lies in the lidar's frame.
    """
    if frame.turned is not None:
        return read_turned(frame.turned, sequence.grid)
    if frame.truth is None:
        return sequence.voxel_labels(frame.frame_id), None
    return _truth(frame.truth).labels(FrameKey(sequence.name, frame.frame_id)), None


def _coarse(labels: NDArray[np.uint8], shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    x, y, z = (
        fine // coarse for fine, coarse in zip(SEMANTIC_KITTI_GRID.shape, shape, strict=True)
    )
    return coarsen_labels(labels, (x, y, z)) if (x, y, z) != (1, 1, 1) else labels
