"""Do probabilities mean what they say? Reliability, expected calibration error, and a remedy.

Of all voxels that a network calls occupied with 30 %, three in ten should be. Counts are kept for
each of the 256 values that `occupied_probability` can take, so that nothing is lost by binning:
error, diagram, remedy and the best threshold all come from the same table.

Expected calibration error: Guo et al., On Calibration of Modern Neural Networks, 2017, eq. 3.
Remedy: Platt scaling, p' = sigmoid(scale * logit(p) + shift), which keeps the order of voxels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.errors import ConfigError, DataFileError
from cigocc_ros.core.labels import EMPTY, IGNORE

LEVELS = 256
"""Values of a uint8 probability: 0 is 0, 255 is 1."""
BINS = 15
"""Of the expected calibration error, of equal width, as in most papers."""
LEAST_SCALE = 0.01
_STEPS, _CLOSE, _PULL = 50, 1e-9, 10.0
_UNCHANGED_WEIGHTS = np.array([1.0, 0.0])


@dataclass(frozen=True)
class Reliability:
    """One bin: what was said on average, how often it was so, and of how many voxels."""

    said: float
    found: float
    voxels: int


@dataclass(frozen=True)
class Platt:
    """p' = sigmoid(scale * logit(p) + shift)."""

    scale: float
    shift: float

    def __post_init__(self) -> None:
        """Raise ConfigError for a scale that would turn the order of voxels round."""
        if not (np.isfinite([self.scale, self.shift]).all() and self.scale > 0):
            raise ConfigError(f'expected a finite shift and a scale above 0, found {self}')

    def apply(self, probability: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the calibrated probabilities of any shape."""
        turned: NDArray[np.float64] = 1 / (
            1 + np.exp(-self.scale * _logit(probability) - self.shift)
        )
        return turned

    def undo(self, probability: float) -> float:
        """Return what the network says where p' is `probability`."""
        logit = float(_logit(np.array([probability]))[0])
        return float(_sigmoid(np.array((logit - self.shift) / self.scale)))


UNCHANGED = Platt(1.0, 0.0)


class OccupancyCounts:
    """How many voxels of each said probability are free and occupied, over many frames."""

    def __init__(self) -> None:
        """Start with no frames."""
        self.free: NDArray[np.int64] = np.zeros(LEVELS, np.int64)
        self.occupied: NDArray[np.int64] = np.zeros(LEVELS, np.int64)

    def update(self, probability: NDArray[np.uint8], target: NDArray[np.uint8]) -> None:
        """Add uint8 probabilities against train ids (255 = unknown, left out) of one shape."""
        if probability.shape != target.shape or probability.dtype != np.uint8:
            raise DataFileError(
                f'expected uint8 probabilities of {target.shape}, found {probability.dtype} of '
                f'{probability.shape}'
            )
        for counts, chosen in ((self.free, target == EMPTY), (self.occupied, _occupied(target))):
            counts += np.bincount(probability[chosen], minlength=LEVELS)

    @property
    def voxels(self) -> NDArray[np.int64]:
        """Voxels of each level, (256,)."""
        counts: NDArray[np.int64] = self.free + self.occupied
        return counts

    def reliability(self, platt: Platt = UNCHANGED, bins: int = BINS) -> list[Reliability]:
        """Return the bins that hold any voxel, from low to high."""
        said = platt.apply(_levels()) if platt is not UNCHANGED else _levels()
        index = np.minimum((said * bins).astype(np.int64), bins - 1)
        voxels, occupied = (
            np.bincount(index, counts, bins) for counts in (self.voxels, self.occupied)
        )
        total = np.bincount(index, self.voxels * said, bins)
        return [
            Reliability(total[i] / voxels[i], occupied[i] / voxels[i], int(voxels[i]))
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
        weights = _UNCHANGED_WEIGHTS
        for _ in range(_STEPS):
            said = _sigmoid(_DESIGN @ weights)
            gradient = _DESIGN.T @ (self.voxels * said - self.occupied)
            gradient += _PULL * (weights - _UNCHANGED_WEIGHTS)
            spread = self.voxels * said * (1 - said)
            step = np.linalg.solve(
                (_DESIGN * spread[:, None]).T @ _DESIGN + _PULL * np.eye(2), gradient
            )
            rate = 1.0
            while rate > _CLOSE and self._loss(weights - rate * step) > self._loss(weights):
                rate /= 2
            weights = weights - rate * step
            if np.abs(rate * step).max() < _CLOSE:
                break
        return Platt(max(float(weights[0]), LEAST_SCALE), float(weights[1]))

    def _loss(self, weights: NDArray[np.float64]) -> float:
        logits = _DESIGN @ weights
        entropy = self.voxels * np.logaddexp(0, logits) - self.occupied * logits
        pull = 0.5 * _PULL * ((weights - _UNCHANGED_WEIGHTS) ** 2).sum()
        return float(entropy.sum() + pull)

    def best_threshold(self) -> tuple[float, float]:
        """Return (threshold, IoU): voxels that say at least `threshold` count as occupied.

        The threshold lies between two levels, so that rounding does not matter.
        """
        self._require()
        hit, wrong = (counts[::-1].cumsum()[::-1] for counts in (self.occupied, self.free))
        iou = hit / (self.occupied.sum() + wrong)
        level = int(iou.argmax())
        return max(level - 0.5, 0.0) / (LEVELS - 1), float(iou[level])

    @property
    def can_be_judged(self) -> bool:
        """Whether there are voxels of both kinds."""
        return bool(self.free.any() and self.occupied.any())

    def _require(self) -> None:
        if not self.can_be_judged:
            raise DataFileError(
                f'calibration needs free and occupied voxels, found {self.free.sum()} and '
                f'{self.occupied.sum()}'
            )


def _levels() -> NDArray[np.float64]:
    return np.arange(LEVELS) / (LEVELS - 1)


def _logit(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log(p / (1 - p)); 0 and 1 count as half a level away from the end."""
    end = 0.5 / (LEVELS - 1)
    inside = np.clip(probability, end, 1 - end)
    logits: NDArray[np.float64] = np.log(inside / (1 - inside))
    return logits


def _sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    said: NDArray[np.float64] = 0.5 * (1 + np.tanh(0.5 * logits))  # cannot overflow
    return said


def _occupied(target: NDArray[np.uint8]) -> NDArray[np.bool_]:
    known: NDArray[np.bool_] = (target != EMPTY) & (target != IGNORE)
    return known


_DESIGN = np.stack([_logit(_levels()), np.ones(LEVELS)], axis=1)
