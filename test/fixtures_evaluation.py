"""A data set of two sequences with ground truth in every form, and predictions for it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from fixtures_sequence import build_sequence
from numpy.typing import NDArray

from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID
from cigocc_ros.core.labels import NUM_CLASSES, raw_from_train
from cigocc_ros.data import kitti_files
from cigocc_ros.data.kitti_layout import FrameKey
from cigocc_ros.evaluation.submission import member_name

SHAPE = SEMANTIC_KITTI_GRID.shape
FRAMES = tuple(FrameKey(s, f) for s in ('00', '08') for f in ('000000', '000005'))
UNKNOWN_FROM_X = 200


@cache
def truth_of(frame: FrameKey) -> NDArray[np.uint8]:
    """Return random train ids, mostly empty, unknown beyond x index UNKNOWN_FROM_X."""
    rng = np.random.default_rng(int(frame.sequence + frame.frame_id))
    labels = rng.integers(0, NUM_CLASSES, SHAPE, dtype=np.uint8)
    labels[rng.random(SHAPE) < 0.8] = 0
    labels[UNKNOWN_FROM_X:] = 255
    labels.flags.writeable = False
    return labels


@cache
def guess_of(frame: FrameKey) -> NDArray[np.uint8]:
    """Return a prediction that is right in about half of the voxels."""
    rng = np.random.default_rng(1000 + int(frame.sequence + frame.frame_id))
    guess = rng.integers(0, NUM_CLASSES, SHAPE, dtype=np.uint8)
    return np.where((rng.random(SHAPE) < 0.5) & (truth_of(frame) != 255), truth_of(frame), guess)


def write_volumes(root: Path) -> Path:
    """Write `.label` and `.invalid` of all frames, as SemanticKITTI and `cigocc voxelize` do."""
    for frame in FRAMES:
        labels = truth_of(frame)
        stem = root / 'sequences' / frame.sequence / 'voxels' / frame.frame_id
        raw = raw_from_train(np.where(labels == 255, 9, labels))
        kitti_files.write_voxel_labels(stem.with_suffix('.label'), raw)
        kitti_files.write_voxel_bits(stem.with_suffix('.invalid'), labels == 255)
    return root


def write_arrays(root: Path) -> Path:
    """Write SS_FFFFFF.npz of all frames."""
    root.mkdir(parents=True, exist_ok=True)
    for frame in FRAMES:
        np.savez_compressed(root / f'{frame.sequence}_{frame.frame_id}.npz', label=truth_of(frame))
    return root


def write_predictions(root: Path, perfect: bool = False) -> Path:
    """Write a prediction file of every frame: `guess_of`, or the truth where it is known."""
    for frame in FRAMES:
        truth, guess = truth_of(frame), guess_of(frame)
        labels = np.where(truth == 255, guess, truth) if perfect else guess
        kitti_files.write_voxel_labels(root / member_name(frame), raw_from_train(labels))
    return root


def write_images(root: Path) -> Path:
    """Write the camera side of both sequences, and .bin files that say what is to be predicted."""
    for name in ('00', '08'):
        folder = build_sequence(root / 'sequences' / name, frames=6)
        for path in (folder / 'voxels').iterdir():
            path.unlink()
        for frame_id in ('000000', '000005'):
            bits = np.zeros(SHAPE, dtype=bool)
            kitti_files.write_voxel_bits(folder / 'voxels' / f'{frame_id}.bin', bits)
    return root
