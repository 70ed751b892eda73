"""The 20 classes of SemanticKITTI scene completion: ids, names, colours, frequencies.

Source: semantic-kitti-api's semantic-kitti.yaml (ids, colours; stored there as BGR) and the
training-set voxel counts published with MonoScene.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.errors import DataFileError

EMPTY = 0
IGNORE = 255
Value = TypeVar('Value', bound=np.integer[Any])


@dataclass(frozen=True)
class SemanticClass:
    """One train id: the raw ids it merges (the first is written in submissions) and its looks."""

    name: str
    raw_ids: tuple[int, ...]
    rgb: tuple[int, int, int]
    voxel_count: float


CLASSES: tuple[SemanticClass, ...] = (
    SemanticClass('empty', (0,), (0, 0, 0), 5.41773033e9),
    SemanticClass('car', (10, 252), (100, 150, 245), 1.57835390e7),
    SemanticClass('bicycle', (11,), (100, 230, 245), 1.25136e5),
    SemanticClass('motorcycle', (15,), (30, 60, 150), 1.18809e5),
    SemanticClass('truck', (18, 258), (80, 30, 180), 6.46799e5),
    SemanticClass('other-vehicle', (20, 13, 16, 256, 257, 259), (0, 0, 255), 8.21951e5),
    SemanticClass('person', (30, 254), (255, 30, 30), 2.62978e5),
    SemanticClass('bicyclist', (31, 253), (255, 40, 200), 2.83696e5),
    SemanticClass('motorcyclist', (32, 255), (150, 30, 90), 2.04750e5),
    SemanticClass('road', (40, 60), (255, 0, 255), 6.16887030e7),
    SemanticClass('parking', (44,), (255, 150, 255), 4.50296100e6),
    SemanticClass('sidewalk', (48,), (75, 0, 75), 4.48836500e7),
    SemanticClass('other-ground', (49,), (175, 0, 75), 2.26992300e6),
    SemanticClass('building', (50,), (255, 200, 0), 5.68402180e7),
    SemanticClass('fence', (51,), (255, 120, 50), 1.57196520e7),
    SemanticClass('vegetation', (70,), (0, 175, 0), 1.58442623e8),
    SemanticClass('trunk', (71,), (135, 60, 0), 2.06162300e6),
    SemanticClass('terrain', (72,), (150, 240, 80), 3.69705220e7),
    SemanticClass('pole', (80,), (255, 240, 150), 1.15198800e6),
    SemanticClass('traffic-sign', (81,), (255, 0, 0), 3.34146e5),
)
IGNORED_RAW_IDS = (1, 52, 99)
"""outlier, other-structure, other-object: present in the labels, not scored."""

NUM_CLASSES = len(CLASSES)
CLASS_NAMES: tuple[str, ...] = tuple(entry.name for entry in CLASSES)
PALETTE_RGB: NDArray[np.uint8] = np.array([entry.rgb for entry in CLASSES], dtype=np.uint8)
VOXEL_COUNTS: NDArray[np.float64] = np.array([entry.voxel_count for entry in CLASSES])
RAW_FROM_TRAIN: NDArray[np.uint16] = np.array([c.raw_ids[0] for c in CLASSES], dtype=np.uint16)
_UNKNOWN = 254


def _train_from_raw_table() -> NDArray[np.uint8]:
    table = np.full(260, _UNKNOWN, dtype=np.uint8)
    for train_id, entry in enumerate(CLASSES):
        table[list(entry.raw_ids)] = train_id
    table[list(IGNORED_RAW_IDS)] = IGNORE
    return table


TRAIN_FROM_RAW: NDArray[np.uint8] = _train_from_raw_table()


def class_weights() -> NDArray[np.float32]:
    """Return the cross-entropy weights 1 / ln(count + 0.001), (20,) float32 (MonoScene)."""
    return (1.0 / np.log(VOXEL_COUNTS + 0.001)).astype(np.float32)


def train_from_raw(raw: NDArray[Any]) -> NDArray[np.uint8]:
    """Map raw SemanticKITTI ids to train ids 0..19 and 255; raise DataFileError on unknown ids.

    Raw 0 becomes 0 (empty in volumes; unlabelled in point clouds, where the caller masks it).
    """
    raw = np.asarray(raw)
    known = raw < len(TRAIN_FROM_RAW)
    train = TRAIN_FROM_RAW[np.where(known, raw, 0)]
    bad = ~known | (train == _UNKNOWN)
    if bad.any():
        raise DataFileError(
            f'unknown raw label ids {np.unique(raw[bad])[:8].tolist()}: expected those of '
            'semantic-kitti.yaml; are the upper 16 bits (instance ids) still set?'
        )
    return train


def raw_from_train(train: NDArray[Any]) -> NDArray[np.uint16]:
    """Map train ids 0..19 to the raw ids of a submission; raise DataFileError on others."""
    train = np.asarray(train)
    if train.size and int(train.max()) >= NUM_CLASSES:
        raise DataFileError(f'train ids must be 0..{NUM_CLASSES - 1}, found {int(train.max())}')
    raw: NDArray[np.uint16] = RAW_FROM_TRAIN[train]
    return raw


def spread_voxels(labels: NDArray[Value], shape: tuple[int, ...]) -> NDArray[Value]:
    """Return labels, or probabilities, (x, y, z) of coarse voxels on the finer (X, Y, Z)."""
    if any(fine % coarse for fine, coarse in zip(shape, labels.shape, strict=True)):
        raise DataFileError(f'{shape} voxels do not divide {labels.shape} into whole parts')
    for axis, (fine, coarse) in enumerate(zip(shape, labels.shape, strict=True)):
        labels = labels.repeat(fine // coarse, axis=axis)
    return labels


def coarsen_labels(labels: NDArray[np.uint8], factor: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Merge blocks of `factor` voxels of (X, Y, Z) train ids, 255 = unknown.

    A block with more than 95 % empty and unknown voxels becomes empty where empty ones are the
    majority, else unknown; any other takes its commonest class, the lowest id in a tie (rule of
    the half-resolution labels that VoxFormer and MonoScene train on).
    """
    fx, fy, fz = factor
    nx, ny, nz = labels.shape
    if nx % fx or ny % fy or nz % fz:
        raise DataFileError(f'labels {labels.shape} cannot be divided into blocks of {factor}')
    blocks = labels.reshape(nx // fx, fx, ny // fy, fy, nz // fz, fz)
    blocks = blocks.transpose(0, 2, 4, 1, 3, 5).reshape(nx // fx, ny // fy, nz // fz, -1)
    empty = (blocks == EMPTY).sum(-1)
    unknown = (blocks == IGNORE).sum(-1)
    best_count = np.zeros(empty.shape, dtype=np.int64)
    best = np.zeros(empty.shape, dtype=np.uint8)
    for train_id in np.unique(labels[(labels != EMPTY) & (labels != IGNORE)]):
        count = (blocks == train_id).sum(-1)
        better = count > best_count
        best_count[better] = count[better]
        best[better] = train_id
    free = empty + unknown > 0.95 * blocks.shape[-1]
    return np.where(free, np.where(empty > unknown, EMPTY, IGNORE), best).astype(np.uint8)
