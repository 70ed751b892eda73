"""Class logits of voxels whose true class is known, and the temperature that makes them honest.

Temperature scaling: Guo et al., On Calibration of Modern Neural Networks, 2017, 4.2. One number
divides all logits, so that no class is named that was not named before.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.labels import EMPTY, IGNORE, NUM_CLASSES
from cigocc_ros.evaluation.calibration import LEVELS, ClassCounts

SAMPLES_PER_FRAME = 20_000
"""Occupied voxels that are drawn of a frame: neighbours say the same, and all need gigabytes."""
LOWEST, HIGHEST = 0.05, 20.0
"""Between these a temperature is looked for."""
_CHUNK, _STEPS, _CLOSE, _SEED = 200_000, 60, 1e-6, 15


class ClassSamples:
    """Voxels that are occupied in truth: 19 logits, true class, level of being occupied, view."""

    def __init__(self) -> None:
        """Start with no frames."""
        self._logits: list[NDArray[np.float32]] = []
        self._truth: list[NDArray[np.intp]] = []
        self._levels: list[NDArray[np.integer[Any]]] = []
        self._views: list[NDArray[np.uint8]] = []
        self._random = np.random.default_rng(_SEED)

    def update(
        self,
        logits: NDArray[np.float32],
        levels: NDArray[np.integer[Any]],
        views: NDArray[np.uint8],
        target: NDArray[np.uint8],
    ) -> None:
        """Add SAMPLES_PER_FRAME occupied voxels of `target` (X, Y, Z), or all if there are fewer.

        `logits` (20, x, y, z), `levels` (x, y, z), of being occupied, and `views` (x, y, z) may be
        of coarser voxels. Raises DataFileError where shapes do not fit.
        """
        if logits.shape != (NUM_CLASSES, *levels.shape) or any(
            fine % coarse for fine, coarse in zip(target.shape, levels.shape, strict=True)
        ):
            raise DataFileError(
                f'expected logits ({NUM_CLASSES}, x, y, z) and levels (x, y, z) of voxels that '
                f'divide {target.shape}, found {logits.shape} and {levels.shape}'
            )
        flat = np.flatnonzero((target != EMPTY) & (target != IGNORE))
        if len(flat) > SAMPLES_PER_FRAME:
            flat = np.sort(self._random.choice(flat, SAMPLES_PER_FRAME, replace=False))
        fine = np.unravel_index(flat, target.shape)
        factors = (a // b for a, b in zip(target.shape, levels.shape, strict=True))
        place = tuple(index // factor for index, factor in zip(fine, factors, strict=True))
        self._logits.append(logits[EMPTY + 1 :][(slice(None), *place)].T.astype(np.float32))
        self._truth.append(target[fine].astype(np.intp) - (EMPTY + 1))
        self._levels.append(levels[place])
        self._views.append(views[place])

    def include(self, others: Iterable[ClassSamples]) -> None:
        """Add the voxels of others."""
        for other in others:
            self._logits += other._logits
            self._truth += other._truth
            self._levels += other._levels
            self._views += other._views

    def fit(self, least: NDArray[np.int64]) -> float:
        """Return the temperature of least cross entropy on voxels of the least level and above.

        That is one level for each view (`view_counts.from_levels`), so that the voxels are those
        whose class is published. Bisection with Newton's steps in 1 / T, in which the entropy is
        convex. Raises DataFileError without voxels.
        """
        logits, truth = self._shown(least)
        low, high, factor = 1 / HIGHEST, 1 / LOWEST, 1.0
        for _ in range(_STEPS):
            slope, bend = _derivatives(logits, truth, factor)
            low, high = (factor, high) if slope < 0 else (low, factor)
            step = factor - slope / bend if bend > 0 else low
            following = step if low < step < high else (low * high) ** 0.5
            if abs(following - factor) < _CLOSE * factor:
                break
            factor = following
        return 1 / factor

    def counts(self, least: NDArray[np.int64], temperature: float) -> ClassCounts:
        """Return how often the best class was right, by its probability; of the same voxels."""
        logits, truth = self._shown(least)
        counts = ClassCounts()
        for part in _parts(len(truth)):
            scaled = logits[part] / np.float32(temperature)
            best = scaled.argmax(1)
            share = 1 / np.exp(scaled - scaled.max(1, keepdims=True)).sum(1)
            levels = np.rint((LEVELS - 1) * share).astype(np.uint8)
            counts.add(levels, best == truth[part])
        return counts

    def _shown(self, least: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
        pairs_of = zip(self._levels, self._views, strict=True)
        shown = [levels >= least[views] for levels, views in pairs_of]
        pairs = [
            (logits[mask], truth[mask])
            for logits, truth, mask in zip(self._logits, self._truth, shown, strict=True)
        ]
        if not any(len(truth) for _, truth in pairs):
            raise DataFileError(
                'calibration of classes needs occupied voxels from the threshold on, found none'
            )
        logits, truth = (np.concatenate(side) for side in zip(*pairs, strict=True))
        return logits, truth


def _derivatives(
    logits: NDArray[np.float32], truth: NDArray[np.intp], factor: float
) -> tuple[float, float]:
    """Return the first two derivatives of the cross entropy of softmax(factor * logits)."""
    slope = bend = 0.0
    for part in _parts(len(truth)):
        chunk = logits[part].astype(np.float64)
        weights = np.exp(factor * (chunk - chunk.max(1, keepdims=True)))
        weights /= weights.sum(1, keepdims=True)
        mean = (weights * chunk).sum(1)
        slope += float((mean - chunk[np.arange(len(chunk)), truth[part]]).sum())
        bend += float(((weights * chunk**2).sum(1) - mean**2).sum())
    return slope, bend


def _parts(count: int) -> list[slice]:
    return [slice(first, first + _CHUNK) for first in range(0, count, _CHUNK)]
