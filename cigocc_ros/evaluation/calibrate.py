"""Fit a calibration on some frames, and say what it would do on others.

Counts are kept by depth prior and by part of the frames. All parts together give the numbers; what
they are worth is judged with each part left out in turn: fitted on the other parts, applied to it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.calibration import Calibration, Miscalibration
from cigocc_ros.core.errors import ConfigError, DataFileError
from cigocc_ros.core.labels import EMPTY, IGNORE
from cigocc_ros.core.manifest import ModelManifest
from cigocc_ros.data.kitti_layout import FrameKey
from cigocc_ros.evaluation.calibration import (
    LevelCounts,
    OccupancyCounts,
    Platt,
    Reliability,
)
from cigocc_ros.evaluation.class_samples import ClassSamples

DEFAULT_FOLDS = 4
ALL = 'all'
"""What the scores of all depth priors together are called."""


@dataclass
class Counted:
    """What was counted on some frames with one depth prior."""

    occupancy: OccupancyCounts = field(default_factory=OccupancyCounts)
    classes: ClassSamples = field(default_factory=ClassSamples)
    hit: int = 0
    """Voxels that are occupied and have a label."""
    either: int = 0
    """Voxels that are occupied or have a label, known ones."""

    def update(
        self,
        labels: NDArray[np.uint8],
        levels: NDArray[np.integer[Any]],
        target: NDArray[np.uint8],
    ) -> None:
        """Add a frame, everything (X, Y, Z).

        Train ids, levels of being occupied, true train ids with 255 = unknown.
        """
        self.occupancy.update_levels(levels, target)
        known, named, solid = target != IGNORE, labels != EMPTY, target != EMPTY
        self.hit += int((known & named & solid).sum())
        self.either += int((known & (named | solid)).sum())

    def include(self, others: Iterable[Counted]) -> None:
        """Add other counts to these."""
        for other in others:
            self.occupancy.include([other.occupancy])
            self.classes.include([other.classes])
            self.hit += other.hit
            self.either += other.either


Parts = Sequence[Counted]
ByPrior = Mapping[str, Parts]
"""Depth prior -> what was counted on each part of the frames, in one order."""


@dataclass(frozen=True)
class Fitted:
    """The numbers, in terms of what the network said."""

    platt: Platt
    level: int
    """Index of the least level of voxels that count as occupied."""
    threshold: float
    """The same of the calibrated probability."""
    temperature: float | None


@dataclass(frozen=True)
class PriorScores:
    """What the numbers do to one depth prior, or to all; shares in 0..1."""

    occupied: Miscalibration
    classes: Miscalibration | None
    classes_right: float | None
    """Share of the classes of occupied voxels from the threshold on that are right."""
    iou_before: float
    """Of the labels that the network gave."""
    iou_after: float
    iou_held_out: float
    own_threshold: float
    """Best of this prior alone, of the calibrated probability."""
    own_iou: float


def parts_of(frames: Sequence[FrameKey], folds: int) -> list[tuple[FrameKey, ...]]:
    """Return the frames in parts: sequences, or runs of frames where there is one sequence.

    Neighbouring frames are alike, so parts are never mixed. Raises ConfigError where there is
    nothing to leave out.
    """
    sequences = sorted({key.sequence for key in frames})
    if len(sequences) > 1:
        return [tuple(k for k in frames if k.sequence == name) for name in sequences]
    if not 2 <= folds <= len(frames):
        raise ConfigError(
            f'a calibration is fitted on some frames and judged on others: expected two sequences '
            f'at least, or 2 to {len(frames)} --folds of the frames of one; found '
            f'{len(frames)} frames of {", ".join(sequences) or "no sequence"} and --folds {folds}'
        )
    edges = [len(frames) * index // folds for index in range(folds + 1)]
    return [tuple(frames[a:b]) for a, b in zip(edges, edges[1:], strict=False)]


def pooled(counted: Iterable[Counted]) -> Counted:
    """Return the sum of some, one at least."""
    everything = list(counted)
    whole = Counted(OccupancyCounts(everything[0].occupancy.levels))
    whole.include(everything)
    return whole


def fit(by_prior: ByPrior, with_classes: bool) -> Fitted:
    """Return the numbers of all frames and priors given.

    The scaling is that of all known voxels alike; the threshold has the best mean over the priors
    of the IoU; the temperature is that of the occupied voxels from the threshold on. Raises
    DataFileError where there is nothing to fit.
    """
    whole = [pooled(parts) for parts in by_prior.values()]
    everything = pooled(whole)
    platt = everything.occupancy.fit()
    level = int(np.mean([one.occupancy.iou for one in whole], axis=0)[1:].argmax()) + 1
    return Fitted(
        platt,
        level,
        _threshold(everything, platt, level),
        everything.classes.fit(level) if with_classes else None,
    )


def _threshold(counted: Counted, platt: Platt, level: int) -> float:
    """Return the calibrated probability between a level and the one below."""
    return float(platt.of_logits(counted.occupancy.levels.edges[level]))


def left_out(by_prior: ByPrior, with_classes: bool) -> list[Fitted]:
    """Return for each part the numbers of the other parts."""
    count = len(next(iter(by_prior.values())))
    return [
        fit(
            {p: [*parts[:index], *parts[index + 1 :]] for p, parts in by_prior.items()},
            with_classes,
        )
        for index in range(count)
    ]


def score(parts: Parts, fitted: Fitted, others: Sequence[Fitted]) -> PriorScores:
    """Return what the numbers do to the parts, and those of `left_out` to the part left out."""
    whole = pooled(parts)
    pairs = list(zip(parts, others, strict=True))
    raw = whole.occupancy
    occupied = Miscalibration(
        raw.calibration_error(),
        raw.calibration_error(fitted.platt),
        _error([part.occupancy.reliability(other.platt) for part, other in pairs]),
    )
    best = int(raw.iou[1:].argmax()) + 1
    hits = [_hits(part.occupancy, other.level) for part, other in pairs]
    return PriorScores(
        occupied=occupied,
        classes=_class_error(whole, pairs, fitted),
        classes_right=None
        if fitted.temperature is None
        else whole.classes.counts(fitted.level, 1.0).share_right,
        iou_before=whole.hit / max(whole.either, 1),
        iou_after=float(raw.iou[fitted.level]),
        iou_held_out=sum(hit for hit, _ in hits) / max(sum(either for _, either in hits), 1),
        own_threshold=_threshold(whole, fitted.platt, best),
        own_iou=float(raw.iou[best]),
    )


def all_scores(by_prior: ByPrior, fitted: Fitted, with_classes: bool) -> dict[str, PriorScores]:
    """Return the scores by depth prior, and of all together."""
    others = left_out(by_prior, with_classes)
    scores = {prior: score(parts, fitted, others) for prior, parts in by_prior.items()}
    together = [pooled(side) for side in zip(*by_prior.values(), strict=True)]
    return {**scores, ALL: score(together, fitted, others)}


def calibration_of(
    manifest: ModelManifest,
    frames: Sequence[FrameKey],
    fitted: Fitted,
    scores: Mapping[str, PriorScores],
    facts: Mapping[str, Any],
) -> Calibration:
    """Return the numbers in terms of the checkpoint, whatever the model had in its graph."""
    platt, whole = fitted.platt.after(in_the_graph(manifest)), scores[ALL]
    return Calibration(
        scale=platt.scale,
        shift=platt.shift,
        threshold=fitted.threshold,
        temperature=fitted.temperature,
        occupied_error=whole.occupied,
        class_error=whole.classes,
        frames=dict(Counter(key.sequence for key in frames)),
        facts={
            **facts,
            'threshold_is': 'of the best mean over the depth priors of the IoU',
            'priors': {name: asdict(found) for name, found in scores.items()},
        },
    )


def in_the_graph(manifest: ModelManifest) -> Platt:
    """Return what is between a checkpoint's logit of being occupied and what the model says."""
    if manifest.calibration is not None:
        return Platt(manifest.calibration.scale, manifest.calibration.shift)
    return Platt(1.0, -float(manifest.training.get('empty_shift', 0.0)))


def _class_error(
    whole: Counted, pairs: Sequence[tuple[Counted, Fitted]], fitted: Fitted
) -> Miscalibration | None:
    if fitted.temperature is None:
        return None
    rows = []
    for part, other in pairs:
        if other.temperature is not None:
            counts = _counts_or_none(part.classes, other.level, other.temperature)
            rows.append([] if counts is None else counts.reliability())
    return Miscalibration(
        whole.classes.counts(fitted.level, 1.0).calibration_error(),
        whole.classes.counts(fitted.level, fitted.temperature).calibration_error(),
        _error(rows),
    )


def _counts_or_none(
    samples: ClassSamples, from_level: int, temperature: float
) -> LevelCounts | None:
    """Return the counts; None of a part in which no occupied voxel says so much."""
    try:
        return samples.counts(from_level, temperature)
    except DataFileError:
        return None


def _error(parts: Sequence[Sequence[Reliability]]) -> float:
    """Return the calibration error of parts, each by its own bins, weighted by their voxels."""
    rows = [row for part in parts for row in part]
    total = sum(row.voxels for row in rows)
    return sum(row.voxels * abs(row.said - row.found) for row in rows) / max(total, 1)


def _hits(counts: OccupancyCounts, level: int) -> tuple[int, int]:
    """Return how many voxels are occupied and said so, and how many are either."""
    hit, wrong = (int(side[level:].sum()) for side in (counts.occupied, counts.free))
    return hit, int(counts.occupied.sum()) + wrong
