"""How far the answers of one network agree with those of another, counted over frames."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.labels import CLASS_NAMES, EMPTY
from cigocc_ros.evaluation.metrics import SscMetrics

Labels = NDArray[np.uint8]


@dataclass(frozen=True)
class AgreementScores:
    """Shares in 0..1 of all voxels of all frames unless said otherwise."""

    num_frames: int
    labels: float
    """Voxels with the same label."""
    labels_worst_frame: float
    labels_where_occupied: float
    """The same among voxels that either side says is occupied: empty space flatters `labels`."""
    occupied_iou: float
    mean_iou: float
    """Mean IoU of the classes that occur on either side."""
    iou_per_class: dict[str, float]
    """Classes that occur on either side only."""
    largest_probability_difference: float
    """Of occupied probabilities, which come in steps of 1/255."""
    mean_probability_difference: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


class AgreementCounter:
    """Add up frames, then divide once, as the official scores do."""

    def __init__(self) -> None:
        """Start with no frames."""
        self._metrics = SscMetrics()
        self._frame_shares: list[float] = []
        self._same_occupied = self._either_occupied = 0
        self._largest_step, self._sum_of_steps = 0, 0

    def update(
        self,
        reference: tuple[Labels, Labels],
        candidate: tuple[Labels, Labels],
    ) -> None:
        """Add a frame: (labels, occupied probability in 1/255) of both, uint8 of one shape.

        Raises DataFileError where shapes differ or labels are no train ids.
        """
        expected, found = reference[0], candidate[0]
        self._metrics.update(found, expected)
        same = expected == found
        occupied = (expected != EMPTY) | (found != EMPTY)
        self._frame_shares.append(float(same.mean()))
        self._same_occupied += int((same & occupied).sum())
        self._either_occupied += int(occupied.sum())
        steps = np.abs(reference[1].astype(np.int16) - candidate[1].astype(np.int16))
        self._largest_step = max(self._largest_step, int(steps.max()))
        self._sum_of_steps += int(steps.sum(dtype=np.int64))

    def compute(self) -> AgreementScores:
        """Return the scores of everything added so far; DataFileError where that is nothing."""
        if not self._frame_shares:
            raise DataFileError('agreement needs at least one frame, found none')
        confusion = self._metrics.confusion
        total = int(confusion.sum())
        scores = self._metrics.compute()
        present = (confusion.sum(0) + confusion.sum(1)) > 0
        by_name = {n: v for n, v in scores.by_name().items() if present[CLASS_NAMES.index(n)]}
        return AgreementScores(
            num_frames=len(self._frame_shares),
            labels=float(np.trace(confusion) / total),
            labels_worst_frame=min(self._frame_shares),
            labels_where_occupied=_share(self._same_occupied, self._either_occupied),
            occupied_iou=scores.iou if self._either_occupied else 1.0,
            mean_iou=float(np.mean(list(by_name.values()))) if by_name else 1.0,
            iou_per_class=by_name,
            largest_probability_difference=self._largest_step / 255,
            mean_probability_difference=self._sum_of_steps / total / 255,
        )


def _share(part: int, whole: int) -> float:
    """Return part / whole; nothing to disagree about is agreement."""
    return part / whole if whole else 1.0
