"""Which frames are scored, and the loop that scores them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.errors import DataFileError
from cigocc_ros.data.kitti_layout import SPLITS, FrameKey, labelled_frames
from cigocc_ros.evaluation.calibration import ClassCounts, OccupancyCounts
from cigocc_ros.evaluation.ground_truth import GroundTruth
from cigocc_ros.evaluation.metrics import SscScores
from cigocc_ros.evaluation.ranges import RangedMetrics

Predict = Callable[[FrameKey], NDArray[np.uint8]]
LABELLED_SPLITS = tuple(name for name in SPLITS if name != 'test')


@dataclass(frozen=True)
class Evaluation:
    """The outcome: scores by range in metres, from counts over all frames."""

    scores: dict[float, SscScores]
    confusion: dict[float, NDArray[np.int64]]
    """(20, 20) voxels: rows prediction, columns ground truth."""
    frames: dict[str, int]
    """Sequence -> number of frames scored."""
    reliability: OccupancyCounts | None = None
    """How occupied voxels of each said probability were; None for labels from files."""
    class_reliability: ClassCounts | None = None
    """How often classes of each said probability were right; None where the model says none."""


class Said(Protocol):
    """What a model said of the frame that was predicted last, each uint8 (X, Y, Z), in 1/255."""

    def probability(self) -> NDArray[np.uint8]:
        """Return the probabilities of being occupied."""

    def class_probability(self) -> NDArray[np.uint8] | None:
        """Return those of the class, given that; None where the model does not say it."""


def frames_to_score(
    truth: GroundTruth, split: str | None, sequences: Sequence[str]
) -> tuple[FrameKey, ...]:
    """Return the frames to score: an official split, some sequences, or all ground truth.

    A split must be complete. Raises DataFileError where ground truth is missing.
    """
    if split is not None:
        frames = labelled_frames(SPLITS[split])
        truth.require(frames)
        return frames
    present = sorted({key.sequence for key in truth.frames})
    unknown = sorted(set(sequences) - set(present))
    if unknown:
        raise DataFileError(
            f'no ground truth of sequence {unknown[0]}; there is some of {", ".join(present)}'
        )
    chosen = set(sequences or present)
    frames = tuple(key for key in truth.frames if key.sequence in chosen)
    truth.require(frames)
    return frames


def split_text(split: str | None, sequences: Sequence[str]) -> str:
    """Say which frames were scored, and whether that is an official split."""
    if split is not None:
        return f'{split} (official, complete)'
    chosen = f'sequences {", ".join(sequences)}' if sequences else 'all ground truth there is'
    return f'{chosen} (not an official split)'


def evaluate(
    frames: Iterable[FrameKey],
    truth: GroundTruth,
    predict: Predict,
    said: Said | None = None,
) -> Evaluation:
    """Score the predictions of all frames; counts are added up and divided once."""
    reliability, class_reliability = OccupancyCounts(), ClassCounts()
    metrics = RangedMetrics()
    counts: Counter[str] = Counter()
    for key in frames:
        labels, target = predict(key), truth.labels(key)
        metrics.update(labels, target)
        if said is not None:
            reliability.update(said.probability(), target)
            sure = said.class_probability()
            if sure is not None:
                class_reliability.update(labels, sure, target)
        counts[key.sequence] += 1
    confusion = {range_m: each.confusion for range_m, each in metrics.metrics.items()}
    return Evaluation(
        metrics.compute(),
        confusion,
        dict(counts),
        reliability if reliability.voxels.any() else None,
        class_reliability if class_reliability.voxels.any() else None,
    )
