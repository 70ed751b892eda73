"""The official scores of semantic scene completion, accumulated over a whole split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.labels import CLASS_NAMES, EMPTY, IGNORE, NUM_CLASSES


@dataclass(frozen=True)
class SscScores:
    """Scores in 0..1 over all voxels seen; IoU, precision and recall are of occupied voxels."""

    precision: float
    recall: float
    iou: float
    miou: float
    """Mean over classes 1..19; empty (0) does not take part."""
    iou_per_class: NDArray[np.float64]
    """(20,) intersection over union by train id, 0 = empty."""
    num_voxels: int
    """Voxels scored, those whose target is known."""

    def by_name(self) -> dict[str, float]:
        """Return class name -> IoU for the classes 1..19."""
        return {name: float(self.iou_per_class[i]) for i, name in enumerate(CLASS_NAMES) if i}


class SscMetrics:
    """Count (prediction, target) pairs over frames, then divide once.

    Formulas: SemanticKITTI's evaluate_completion. Frame means are never averaged, and nothing but
    unknown targets (255) is left out: voxels that the camera does not see are scored too.
    """

    def __init__(self) -> None:
        """Start with no frames."""
        shape = (NUM_CLASSES, NUM_CLASSES)
        self.confusion: NDArray[np.int64] = np.zeros(shape, dtype=np.int64)

    def update(self, prediction: NDArray[Any], target: NDArray[Any]) -> None:
        """Add train ids 0..19 `prediction` against `target` (255 = unknown) of the same shape."""
        if prediction.shape != target.shape:
            raise DataFileError(
                f'prediction and target must have one shape, found {prediction.shape} and '
                f'{target.shape}'
            )
        known = target != IGNORE
        predicted = np.asarray(prediction)[known].astype(np.int64)
        expected = np.asarray(target)[known].astype(np.int64)
        for name, ids in (('prediction', predicted), ('target', expected)):
            if ids.size and not 0 <= ids.min() <= ids.max() < NUM_CLASSES:
                raise DataFileError(
                    f'{name} must hold train ids 0..{NUM_CLASSES - 1}, found '
                    f'{int(ids.min())}..{int(ids.max())}; map raw ids with train_from_raw'
                )
        pairs = np.bincount(NUM_CLASSES * predicted + expected, minlength=NUM_CLASSES**2)
        self.confusion += pairs.reshape(NUM_CLASSES, NUM_CLASSES)  # rows: prediction

    def compute(self) -> SscScores:
        """Return the scores of everything added so far."""
        matrix = self.confusion
        true_positive = np.diag(matrix)
        union = matrix.sum(0) + matrix.sum(1) - true_positive
        # 0/0 counts as 0: a class that never occurs scores 0 and stays in the mean, as officially.
        iou_per_class = true_positive / np.maximum(union, 1)
        hit = matrix[1:, 1:].sum()
        return SscScores(
            precision=float(hit / max(matrix[1:].sum(), 1)),
            recall=float(hit / max(matrix[:, 1:].sum(), 1)),
            iou=float(hit / max(matrix.sum() - matrix[EMPTY, EMPTY], 1)),
            miou=float(iou_per_class[1:].mean()),
            iou_per_class=iou_per_class,
            num_voxels=int(matrix.sum()),
        )
