"""Do probabilities mean what they say? Reliability, expected calibration error, and a remedy.

Of all voxels that a network calls occupied with 30 %, three in ten should be; of all occupied ones
whose class it names with 30 %, three in ten should be of that class. Counts are kept for each of
the 256 values that such a probability can take, so that nothing is lost by binning; or for fine
steps of the logit, where that is known: a byte cannot tell 1e-3 from 1e-9. Error, diagram, remedy
and the best threshold all come from the same table.

Expected calibration error: Guo et al., On Calibration of Modern Neural Networks, 2017, eq. 3.
Remedy: Platt scaling, p' = sigmoid(scale * logit(p) + shift), which keeps the order of voxels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.calibration import Scaling
from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.labels import EMPTY, IGNORE

LEVELS = 256
"""Values of a uint8 probability: 0 is 0, 255 is 1."""
BINS = 15
"""Of the expected calibration error, of equal width, as in most papers."""
STEPS, MAX_LOGIT = 16, 24
"""Levels in a unit of a logit, and the largest one that is told from larger ones."""
LEAST_SCALE = 0.01
_ROUNDS, _CLOSE, _PULL = 50, 1e-9, 10.0
_UNCHANGED_WEIGHTS = np.array([1.0, 0.0])


@dataclass(frozen=True)
class Reliability:
    """One bin: what was said on average, how often it was so, and of how many voxels."""

    said: float
    found: float
    voxels: int


@dataclass(frozen=True)
class Platt(Scaling):
    """p' = sigmoid(scale * logit(p) + shift)."""

    def apply(self, probability: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the calibrated probabilities of any shape."""
        return self.of_logits(_logit(probability))

    def of_logits(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the calibrated probabilities of what was said as logits of any shape."""
        return sigmoid(self.scale * logits + self.shift)

    def after(self, first: Platt) -> Platt:
        """Return the scaling that does `first`, then this one."""
        return Platt(self.scale * first.scale, self.scale * first.shift + self.shift)

    def undo(self, probability: float) -> float:
        """Return what the network says where p' is `probability`."""
        logit = float(_logit(np.array([probability]))[0])
        return float(sigmoid(np.array((logit - self.shift) / self.scale)))


UNCHANGED = Platt(1.0, 0.0)


@dataclass(frozen=True, eq=False)
class Levels:
    """What can be said, from low to high: probabilities and logits, each (N,)."""

    said: NDArray[np.float64]
    logits: NDArray[np.float64]
    edges: NDArray[np.float64]
    """Of each level, the logit between it and the one below."""


def _bytes() -> Levels:
    said = np.arange(LEVELS) / (LEVELS - 1)
    return Levels(said, _logit(said), _logit(said - 0.5 / (LEVELS - 1)))


def _fine_logits() -> Levels:
    logits = np.arange(-MAX_LOGIT * STEPS, MAX_LOGIT * STEPS + 1) / STEPS
    return Levels(sigmoid(logits), logits, logits - 0.5 / STEPS)


class LevelCounts:
    """How often what was said with each of some levels was not so, and was so."""

    what = 'voxels of both kinds'

    def __init__(self, levels: Levels | None = None) -> None:
        """Start with no frames; the levels are BYTES unless others are given."""
        self.levels = levels = levels or BYTES
        self.wrong: NDArray[np.int64] = np.zeros(len(levels.said), np.int64)
        self.right: NDArray[np.int64] = np.zeros(len(levels.said), np.int64)

    def add(self, levels: NDArray[np.integer[Any]], right: NDArray[np.bool_]) -> None:
        """Add indices of the levels that were said, and whether it was so, of one shape."""
        for counts, chosen in ((self.wrong, ~right), (self.right, right)):
            counts += np.bincount(levels[chosen], minlength=len(counts))

    def include(self, others: Iterable[LevelCounts]) -> None:
        """Add other counts to these."""
        for other in others:
            self.wrong += other.wrong
            self.right += other.right

    @property
    def voxels(self) -> NDArray[np.int64]:
        """Voxels of each level, (N,)."""
        counts: NDArray[np.int64] = self.wrong + self.right
        return counts

    def reliability(self, platt: Platt = UNCHANGED, bins: int = BINS) -> list[Reliability]:
        """Return the bins that hold any voxel, from low to high."""
        levels = self.levels
        said = levels.said if platt is UNCHANGED else platt.of_logits(levels.logits)
        index = np.minimum((said * bins).astype(np.int64), bins - 1)
        voxels, right = (np.bincount(index, counts, bins) for counts in (self.voxels, self.right))
        total = np.bincount(index, self.voxels * said, bins)
        return [
            Reliability(float(total[i] / voxels[i]), float(right[i] / voxels[i]), int(voxels[i]))
            for i in np.flatnonzero(voxels)
        ]

    def calibration_error(self, platt: Platt = UNCHANGED, bins: int = BINS) -> float:
        """Return the expected calibration error, 0..1; raise DataFileError without voxels."""
        self._require()
        rows = self.reliability(platt, bins)
        total = sum(row.voxels for row in rows)
        return sum(row.voxels * abs(row.said - row.found) for row in rows) / total

    def fit(self) -> Platt:
        """Return the Platt scaling of least cross entropy on what was counted.

        Newton's method with halved steps, drawn to "unchanged" as if by a few voxels, so that
        voxels that can be told apart without error do not drive it to infinity. A scale below
        LEAST_SCALE, of probabilities that say nothing, is LEAST_SCALE. Raises DataFileError where
        either kind of voxel is missing.
        """
        self._require()
        weights, design = _UNCHANGED_WEIGHTS, self._design()
        for _ in range(_ROUNDS):
            said = sigmoid(design @ weights)
            gradient = design.T @ (self.voxels * said - self.right)
            gradient += _PULL * (weights - _UNCHANGED_WEIGHTS)
            spread = self.voxels * said * (1 - said)
            step = np.linalg.solve(
                (design * spread[:, None]).T @ design + _PULL * np.eye(2), gradient
            )
            rate = 1.0
            while rate > _CLOSE and self._loss(weights - rate * step) > self._loss(weights):
                rate /= 2
            weights = weights - rate * step
            if np.abs(rate * step).max() < _CLOSE:
                break
        return Platt(max(float(weights[0]), LEAST_SCALE), float(weights[1]))

    def _design(self) -> NDArray[np.float64]:
        return np.stack([self.levels.logits, np.ones(len(self.right))], axis=1)

    def _loss(self, weights: NDArray[np.float64]) -> float:
        logits = self._design() @ weights
        entropy = self.voxels * np.logaddexp(0, logits) - self.right * logits
        pull = 0.5 * _PULL * ((weights - _UNCHANGED_WEIGHTS) ** 2).sum()
        return float(entropy.sum() + pull)

    @property
    def can_be_judged(self) -> bool:
        """Whether there is something to judge."""
        return bool(self.voxels.any())

    def _require(self) -> None:
        if not self.can_be_judged:
            raise DataFileError(
                f'calibration needs {self.what}, found {self.wrong.sum()} and {self.right.sum()}'
            )


class OccupancyCounts(LevelCounts):
    """How many voxels of each said probability are free and occupied, over many frames."""

    what = 'free and occupied voxels'

    def update(self, probability: NDArray[np.uint8], target: NDArray[np.uint8]) -> None:
        """Add uint8 probabilities against train ids (255 = unknown, left out) of one shape."""
        _check_levels(probability, target)
        self.update_levels(probability, target)

    def update_levels(self, levels: NDArray[np.integer[Any]], target: NDArray[np.uint8]) -> None:
        """Add indices of levels against train ids of one shape."""
        known = target != IGNORE
        self.add(levels[known], target[known] != EMPTY)

    @property
    def free(self) -> NDArray[np.int64]:
        """Free voxels of each level, (N,)."""
        return self.wrong

    @property
    def occupied(self) -> NDArray[np.int64]:
        """Occupied voxels of each level, (N,)."""
        return self.right

    @property
    def iou(self) -> NDArray[np.float64]:
        """IoU where voxels of each level and above count as occupied, (N,)."""
        self._require()
        hit, wrong = (counts[::-1].cumsum()[::-1] for counts in (self.occupied, self.free))
        scores: NDArray[np.float64] = hit / (self.occupied.sum() + wrong)
        return scores

    def best_threshold(self) -> tuple[float, float]:
        """Return (threshold, IoU): voxels that say at least `threshold` count as occupied.

        The threshold lies between two levels, so that rounding does not matter.
        """
        iou = self.iou
        level = int(iou.argmax())
        threshold = float(sigmoid(self.levels.edges[level])) if level else 0.0
        return threshold, float(iou[level])

    @property
    def can_be_judged(self) -> bool:
        """Whether there are voxels of both kinds."""
        return bool(self.free.any() and self.occupied.any())


class ClassCounts(LevelCounts):
    """How often the class that was named with each probability was right.

    Of voxels that are occupied and are called so: of others no class is named, or none is right.
    """

    what = 'occupied voxels whose class was named'

    def update(
        self,
        labels: NDArray[np.uint8],
        probability: NDArray[np.uint8],
        target: NDArray[np.uint8],
    ) -> None:
        """Add labels and class probabilities in 1/255 against train ids of one shape."""
        _check_levels(probability, target)
        named = (labels != EMPTY) & (target != EMPTY) & (target != IGNORE)
        self.add(probability[named], labels[named] == target[named])

    @property
    def share_right(self) -> float:
        """Share of the named classes that are right; DataFileError without voxels."""
        self._require()
        return float(self.right.sum() / self.voxels.sum())


def logit_levels(logits: NDArray[np.float32]) -> NDArray[np.int16]:
    """Return the indices of LOGITS nearest to logits of any shape."""
    steps = np.rint(logits * STEPS).clip(-MAX_LOGIT * STEPS, MAX_LOGIT * STEPS)
    return (steps + MAX_LOGIT * STEPS).astype(np.int16)


def _check_levels(probability: NDArray[np.uint8], target: NDArray[np.uint8]) -> None:
    if probability.shape != target.shape or probability.dtype != np.uint8:
        raise DataFileError(
            f'expected uint8 probabilities of {target.shape}, found {probability.dtype} of '
            f'{probability.shape}'
        )


def _logit(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log(p / (1 - p)); 0 and 1 count as half a level away from the end."""
    end = 0.5 / (LEVELS - 1)
    inside = np.clip(probability, end, 1 - end)
    logits: NDArray[np.float64] = np.log(inside / (1 - inside))
    return logits


def sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1 / (1 + exp(-logits)), which cannot overflow, of any shape."""
    said: NDArray[np.float64] = 0.5 * (1 + np.tanh(0.5 * logits))
    return said


BYTES = _bytes()
"""Levels of a uint8 probability."""
LOGITS = _fine_logits()
"""Levels of a logit that is known."""
