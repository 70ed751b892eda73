"""Coloured parallelograms: all that a picture of voxels is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Quads:
    """Q parallelograms `corner + a * edge_a + b * edge_b`, a and b in 0..1, in metres.

    corner, edge_a, edge_b: (Q, 3); edge_a x edge_b points outwards. rgb: (Q, 3) in 0..1.
    corner_light: (Q, 2, 2) ambient light at (a, b), 1 = unoccluded. line_pitch_m: (Q,) distance
    between the lines drawn on it; lines also run along its border; infinite draws none.
    """

    corner: Floats
    edge_a: Floats
    edge_b: Floats
    rgb: Floats
    corner_light: Floats
    line_pitch_m: Floats

    def __len__(self) -> int:
        """Return the number of quads."""
        return len(self.corner)

    @property
    def normals(self) -> Floats:
        """Outward unit normals, (Q, 3)."""
        cross = np.cross(self.edge_a, self.edge_b)
        unit: Floats = (cross / np.linalg.norm(cross, axis=1, keepdims=True)).astype(np.float32)
        return unit

    def triangles(self) -> Floats:
        """Return (2 Q, 3, 3): the first halves (0, a, a + b), then the second (0, a + b, b)."""
        far = self.corner + self.edge_a + self.edge_b
        first = np.stack([self.corner, self.corner + self.edge_a, far], axis=1)
        second = np.stack([self.corner, far, self.corner + self.edge_b], axis=1)
        return np.concatenate([first, second])


def merge(parts: Sequence[Quads]) -> Quads:
    """Return all quads of `parts` in their order."""
    return Quads(
        *(np.concatenate([getattr(part, entry.name) for part in parts]) for entry in fields(Quads))
    )


def quads(
    corner: ArrayLike, edge_a: ArrayLike, edge_b: ArrayLike, rgb: ArrayLike, pitch: float = np.inf
) -> Quads:
    """Return evenly lit quads from arrays that broadcast to (Q, 3)."""
    arrays = np.broadcast_arrays(*(np.atleast_2d(x) for x in (corner, edge_a, edge_b, rgb)))
    count = len(arrays[0])
    corners, along_a, along_b, colours = (np.asarray(array, np.float32) for array in arrays)
    return Quads(
        corners,
        along_a,
        along_b,
        colours,
        corner_light=np.ones((count, 2, 2), np.float32),
        line_pitch_m=np.full(count, pitch, np.float32),
    )


def box(low_m: ArrayLike, high_m: ArrayLike, rgb: ArrayLike) -> Quads:
    """Return the six sides of an axis-aligned box, facing outwards."""
    low, high = np.asarray(low_m, np.float32), np.asarray(high_m, np.float32)
    sides = []
    for axis in range(3):
        edge_a, edge_b = np.zeros(3), np.zeros(3)
        a, b = (axis + 1) % 3, (axis + 2) % 3
        edge_a[a], edge_b[b] = (high - low)[a], (high - low)[b]
        top = low.copy()
        top[axis] = high[axis]
        sides += [quads(low, edge_b, edge_a, rgb), quads(top, edge_a, edge_b, rgb)]
    return merge(sides)
