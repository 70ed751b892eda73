"""Counts of what was said of being occupied, apart by how the camera sees the voxel.

What a network says of voxels beside the picture it guesses from streets that it knows; what it
says of those in the picture it measures. One scaling for both makes the first too sure and the
second too unsure, so each of `core.views.VIEWS` has its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.labels import IGNORE
from cigocc_ros.core.views import VIEWS
from cigocc_ros.evaluation.calibration import BYTES, Levels, OccupancyCounts, Platt, sigmoid

Scalings = tuple[Platt, ...]
"""One of each view."""


class ViewCounts:
    """How many voxels of each said probability are free and occupied, by view."""

    def __init__(self, levels: Levels = BYTES) -> None:
        """Start with no frames."""
        self.levels = levels
        self.by_view = tuple(OccupancyCounts(levels) for _ in VIEWS)

    def update_levels(
        self,
        levels: NDArray[np.integer[Any]],
        views: NDArray[np.uint8],
        target: NDArray[np.uint8],
    ) -> None:
        """Add indices of levels and of views against train ids (255 = left out) of one shape."""
        known = target != IGNORE
        levels, views, target = levels[known], views[known], target[known]
        for view, counts in enumerate(self.by_view):
            chosen = views == view
            counts.update_levels(levels[chosen], target[chosen])

    def include(self, others: Iterable[ViewCounts]) -> None:
        """Add other counts to these."""
        for other in others:
            for counts, more in zip(self.by_view, other.by_view, strict=True):
                counts.include([more])

    @property
    def together(self) -> OccupancyCounts:
        """The counts of all views alike."""
        counts = OccupancyCounts(self.levels)
        counts.include(self.by_view)
        return counts

    def fit(self) -> Scalings:
        """Return the Platt scaling of each view.

        A view without voxels of both kinds, which can say nothing, takes that of all voxels.
        Raises DataFileError where no view has any.
        """
        rest = self.together.fit()
        return tuple(one.fit() if one.can_be_judged else rest for one in self.by_view)

    def under(self, scalings: Scalings) -> OccupancyCounts:
        """Return the counts of all views by calibrated probability.

        Their levels are the same for any counts of the same levels and scalings.
        """
        logits = np.stack([one.scale * self.levels.logits + one.shift for one in scalings])
        distinct, place = np.unique(logits, return_inverse=True)
        between = 0.5 * (distinct[1:] + distinct[:-1])
        edges = np.concatenate((distinct[:1], between))
        counts = OccupancyCounts(Levels(sigmoid(distinct), distinct, edges))
        for indices, one in zip(place.reshape(logits.shape), self.by_view, strict=True):
            np.add.at(counts.wrong, indices, one.free)
            np.add.at(counts.right, indices, one.occupied)
        return counts


def from_levels(levels: Levels, scalings: Scalings, threshold: float) -> NDArray[np.int64]:
    """Return the least level of each view that says at least `threshold`, calibrated, (views,).

    As many as there are levels where none does.
    """
    said = [one.of_logits(levels.logits) >= threshold for one in scalings]
    return np.array([int(np.argmax(one)) if one.any() else len(one) for one in said])
