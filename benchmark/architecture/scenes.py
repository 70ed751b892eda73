"""The frames of an experiment in memory, and what an oracle or a network says of their classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.arrays import Arrays
from cigocc_ros.core.class_presets import CITYSCAPES
from cigocc_ros.core.config import FEATURE_STRIDE, ModelConfig
from cigocc_ros.core.labels import CLASS_NAMES, IGNORE, NUM_CLASSES
from cigocc_ros.data.image_files import read_semantic_image
from cigocc_ros.data.kitti_sequence import KittiSequence
from cigocc_ros.training.cache import FrameRef, find_frames, load_frame
from cigocc_ros.training.preparation import prepare_frames
from cigocc_ros.training.views import FrameView

SHARE_FACTOR = 5.0
"""Class shares of a cell times this are given as F_2D: of the size of other features."""


def load_scenes(
    root: Path,
    config: ModelConfig,
    *,
    cache: Path,
    sequences: Sequence[str] | None = None,
    truth: Path | None = None,
    frames_per_sequence: int | None = None,
    segmentation: Path | None = None,
) -> list[Arrays]:
    """Prepare and read the labelled frames under `root`, each with `class_shares` (19, h, w).

    They are those of the class image of generated streets, exact, or of `segmentation`, a folder
    SS/FFFFFF.png of Cityscapes train ids. `frames_per_sequence` keeps the first ones of each.
    """
    found = find_frames(root, config, cache, sequences, truth)
    frames = [
        frame
        for name in sorted({frame.sequence.name for frame in found})
        for frame in [f for f in found if f.sequence.name == name][:frames_per_sequence]
    ]
    for _ in prepare_frames(frames, config, 1):
        pass
    return [
        {**load_frame(frame), 'class_shares': _shares(frame, config, segmentation)}
        for frame in frames
    ]


def with_features(arrays: Arrays, channels: int) -> Arrays:
    """Return arrays whose teacher features are the class shares, filled up with zeros."""
    shares = SHARE_FACTOR * arrays['class_shares'].astype(np.float32)
    features = np.zeros((channels, *shares.shape[1:]), dtype=np.float16)
    features[: NUM_CLASSES - 1] = shares
    rows, columns = (np.eye(cells, dtype=np.float32) for cells in shares.shape[1:])
    return {
        **arrays,
        'teacher_grid': features,
        'teacher_rows': rows,
        'teacher_columns': columns,
    }


def with_semantic_prior(arrays: Arrays) -> Arrays:
    """Return arrays with the greatest class of each cell, uint8 (h, w), 0 where none is known."""
    shares = arrays['class_shares']
    prior = np.where(shares.max(0) > 0, 1 + shares.argmax(0), 0).astype(np.uint8)
    return {**arrays, 'semantic_prior': prior}


def _shares(
    frame: FrameRef, config: ModelConfig, segmentation: Path | None
) -> NDArray[np.float16]:
    view = FrameView(KittiSequence(frame.sequence), frame.frame_id, config.image_size)
    if segmentation is None:
        classes = view.classes
    else:
        image = read_semantic_image(segmentation / frame.sequence.name / f'{frame.frame_id}.png')
        classes = view.fit.apply_nearest(_TRAIN_IDS[image], IGNORE)
    height, width = (size // FEATURE_STRIDE for size in config.image_size)
    cells = classes.reshape(height, FEATURE_STRIDE, width, FEATURE_STRIDE)
    return np.stack([(cells == c).mean((1, 3)) for c in range(1, NUM_CLASSES)]).astype(np.float16)


def _train_ids() -> NDArray[np.uint8]:
    """Return our train id of each Cityscapes id; what has none, and the sky, is unknown."""
    table = np.full(256, IGNORE, dtype=np.uint8)
    for index, (_, name) in enumerate(CITYSCAPES):
        if name is not None and name != CLASS_NAMES[0]:
            table[index] = CLASS_NAMES.index(name)
    return table


_TRAIN_IDS = _train_ids()
