"""Predictions of a model on the images of a data set, by frame."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.frames import CameraFrame
from cigocc_ros.data.camera_frames import STEREO, choose_prior, sequence_frame
from cigocc_ros.data.semantic_kitti import (
    IMAGES,
    RIGHT_IMAGES,
    FrameKey,
    require_files,
    sequence_folder,
)

Infer = Callable[[CameraFrame], NDArray[np.uint8]]


class SequencePredictions:
    """Run `infer`, which returns train ids at SemanticKITTI's size, on frames of a data set."""

    def __init__(self, infer: Infer, root: Path, frames: tuple[FrameKey, ...], prior: str) -> None:
        """Check that the files of all `frames` are there; raise DataFileError naming the gaps.

        `prior` is one of data.camera_frames.PRIORS.
        """
        from cigocc_ros.data.kitti_sequence import KittiSequence  # needs OpenCV

        require_files(root, frames, (IMAGES, RIGHT_IMAGES) if prior == STEREO else (IMAGES,))
        names = sorted({key.sequence for key in frames})
        self.infer = infer
        self.sequences = {name: KittiSequence(sequence_folder(root, name)) for name in names}
        self.priors = {name: choose_prior(s, prior) for name, s in self.sequences.items()}

    def __call__(self, key: FrameKey) -> NDArray[np.uint8]:
        """Return the train ids of a frame, (X, Y, Z) uint8."""
        sequence = self.sequences[key.sequence]
        return self.infer(sequence_frame(sequence, key.frame_id, self.priors[key.sequence]))

    def prior_text(self) -> str:
        """Return e.g. `stereo`, or `mono (00), stereo (01, 02)`."""
        kinds = sorted(set(self.priors.values()))
        if len(kinds) == 1:
            return kinds[0]
        groups = {k: ', '.join(n for n in self.priors if self.priors[n] == k) for k in kinds}
        return ', '.join(f'{kind} ({names})' for kind, names in groups.items())
