"""Fit a calibration on some frames, and say what it would do on others.

Counts are kept by depth prior, by part of the frames and by view (`view_counts`). All parts
together give the numbers; what they are worth is judged with each part left out in turn: fitted on
the other parts, applied to it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.calibration import Calibration, Miscalibration, Scaling
from cigocc_ros.core.errors import ConfigError, DataFileError
from cigocc_ros.core.labels import EMPTY, IGNORE
from cigocc_ros.core.manifest import ModelManifest
from cigocc_ros.core.views import MEASURED, OUTSIDE, SEEN, VIEWS
from cigocc_ros.data.kitti_layout import FrameKey
from cigocc_ros.evaluation.calibration import (
    LevelCounts,
    OccupancyCounts,
    Platt,
    Reliability,
    sigmoid,
)
from cigocc_ros.evaluation.class_samples import ClassSamples
from cigocc_ros.evaluation.view_counts import Scalings, ViewCounts, from_levels

DEFAULT_FOLDS = 4
ALL = 'all'
"""What the scores of all depth priors together are called."""


@dataclass
class Counted:
    """What was counted on some frames with one depth prior."""

    occupancy: ViewCounts = field(default_factory=ViewCounts)
    classes: ClassSamples = field(default_factory=ClassSamples)
    hit: int = 0
    """Voxels that are occupied and have a label."""
    either: int = 0
    """Voxels that are occupied or have a label, known ones."""

    def update(
        self,
        labels: NDArray[np.uint8],
        levels: NDArray[np.integer[Any]],
        views: NDArray[np.uint8],
        target: NDArray[np.uint8],
    ) -> None:
        """Add a frame, everything (X, Y, Z).

        Train ids, levels of being occupied, views, true train ids with 255 = unknown.
        """
        self.occupancy.update_levels(levels, views, target)
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

    scalings: Scalings
    threshold: float
    """Least calibrated probability of voxels that count as occupied."""
    temperature: float | None

    def least(self, counted: Counted) -> NDArray[np.int64]:
        """Return the least level of voxels that count as occupied, of each view."""
        return from_levels(counted.occupancy.levels, self.scalings, self.threshold)


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
    whole = Counted(ViewCounts(everything[0].occupancy.levels))
    whole.include(everything)
    return whole


def fit(by_prior: ByPrior, with_classes: bool) -> Fitted:
    """Return the numbers of all frames and priors given.

    The scalings are those of all known voxels of a view alike; the threshold has the best mean
    over the priors of the IoU; the temperature is that of the occupied voxels from the threshold
    on. Raises DataFileError where there is nothing to fit.
    """
    whole = [pooled(parts) for parts in by_prior.values()]
    everything = pooled(whole)
    scalings = everything.occupancy.fit()
    scaled = [one.occupancy.under(scalings) for one in whole]
    level = int(np.mean([one.iou for one in scaled], axis=0)[1:].argmax()) + 1
    fitted = Fitted(scalings, threshold_of(scaled[0], level), None)
    if not with_classes:
        return fitted
    return replace(fitted, temperature=everything.classes.fit(fitted.least(everything)))


def threshold_of(counts: OccupancyCounts, level: int) -> float:
    """Return the probability between a level and the one below."""
    return float(sigmoid(counts.levels.edges[level]))


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
    raw, scaled = whole.occupancy.together, whole.occupancy.under(fitted.scalings)
    held_out = [(part.occupancy.under(other.scalings), other.threshold) for part, other in pairs]
    occupied = Miscalibration(
        raw.calibration_error(),
        scaled.calibration_error(),
        _error([counts.reliability() for counts, _ in held_out]),
    )
    best = int(scaled.iou[1:].argmax()) + 1
    return PriorScores(
        occupied=occupied,
        classes=_class_error(whole, pairs, fitted),
        classes_right=None
        if fitted.temperature is None
        else whole.classes.counts(fitted.least(whole), 1.0).share_right,
        iou_before=whole.hit / max(whole.either, 1),
        iou_after=_iou([(scaled, fitted.threshold)]),
        iou_held_out=_iou(held_out),
        own_threshold=threshold_of(scaled, best),
        own_iou=float(scaled.iou[best]),
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
    pairs = zip(fitted.scalings, in_the_graph(manifest), strict=True)
    scalings = [platt.after(first) for platt, first in pairs]
    whole, rest = scores[ALL], scalings[OUTSIDE]
    seen, measured = (
        None if one == rest else Scaling(one.scale, one.shift)
        for one in (scalings[SEEN], scalings[MEASURED])
    )
    return Calibration(
        scale=rest.scale,
        shift=rest.shift,
        seen=seen,
        measured=measured,
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


def in_the_graph(manifest: ModelManifest) -> Scalings:
    """Return what is between a checkpoint's logit of being occupied and what the model says."""
    if manifest.calibration is not None:
        return tuple(Platt(one.scale, one.shift) for one in manifest.calibration.scalings)
    return (Platt(1.0, -float(manifest.training.get('empty_shift', 0.0))),) * len(VIEWS)


def _class_error(
    whole: Counted, pairs: Sequence[tuple[Counted, Fitted]], fitted: Fitted
) -> Miscalibration | None:
    if fitted.temperature is None:
        return None
    rows = []
    for part, other in pairs:
        if other.temperature is not None:
            counts = _counts_or_none(part.classes, other.least(part), other.temperature)
            rows.append([] if counts is None else counts.reliability())
    return Miscalibration(
        whole.classes.counts(fitted.least(whole), 1.0).calibration_error(),
        whole.classes.counts(fitted.least(whole), fitted.temperature).calibration_error(),
        _error(rows),
    )


def _counts_or_none(
    samples: ClassSamples, least: NDArray[np.int64], temperature: float
) -> LevelCounts | None:
    """Return the counts; None of a part in which no occupied voxel says so much."""
    try:
        return samples.counts(least, temperature)
    except DataFileError:
        return None


def _error(parts: Sequence[Sequence[Reliability]]) -> float:
    """Return the calibration error of parts, each by its own bins, weighted by their voxels."""
    rows = [row for part in parts for row in part]
    total = sum(row.voxels for row in rows)
    return sum(row.voxels * abs(row.said - row.found) for row in rows) / max(total, 1)


def _iou(parts: Iterable[tuple[OccupancyCounts, float]]) -> float:
    """Return the IoU of parts, each with the voxels occupied that say at least its threshold."""
    hits = either = 0
    for counts, threshold in parts:
        shown = counts.levels.said >= threshold
        hits += int(counts.occupied[shown].sum())
        either += int(counts.occupied.sum() + counts.free[shown].sum())
    return hits / max(either, 1)
