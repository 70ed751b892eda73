"""The visible skin of a voxel map: faces towards free space, with ambient occlusion."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.grid import VoxelGrid
from cigocc_ros.core.labels import EMPTY, IGNORE, PALETTE_RGB
from cigocc_ros.render.quads import Quads, merge

# ambient light at a face corner by the number of filled cells among the three that touch it there
CORNER_LIGHT = np.array([1.0, 0.82, 0.68, 0.55], dtype=np.float32)
_PAD = 2


def drawn_voxels(labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return which voxels (X, Y, Z) of train ids are drawn: neither empty nor unknown."""
    drawn: NDArray[np.bool_] = (labels != EMPTY) & (labels != IGNORE)
    return drawn


def voxel_quads(
    labels: NDArray[np.uint8], grid: VoxelGrid, palette: NDArray[np.uint8] = PALETTE_RGB
) -> Quads:
    """Return the faces of drawn voxels that no other drawn voxel hides, in metres.

    Faces come sorted by direction (-x, +x, -y, +y, -z, +z), then by voxel index. palette: (N, 3)
    uint8 rgb by label.
    """
    filled = np.pad(drawn_voxels(labels), _PAD)
    coloured = palette[np.minimum(labels, len(palette) - 1)]
    return merge(
        [_faces(coloured, filled, grid, axis, sign) for axis in range(3) for sign in (-1, 1)]
    )


def _faces(
    rgb: NDArray[np.uint8],
    filled: NDArray[np.bool_],
    grid: VoxelGrid,
    axis: int,
    sign: int,
) -> Quads:
    """Return the exposed faces whose outward normal is `sign` along `axis`; rgb: (X, Y, Z, 3)."""
    size = np.asarray(grid.voxel_size_m, np.float32)
    step = np.zeros(3, dtype=np.int64)
    step[axis] = sign
    inner = tuple(slice(_PAD, length - _PAD) for length in filled.shape)
    ahead = np.roll(filled, -sign, axis)[inner]
    voxel = np.argwhere(filled[inner] & ~ahead)
    # the order of the tangents turns edge_a x edge_b outwards
    tangents = ((axis + 1) % 3, (axis + 2) % 3) if sign > 0 else ((axis + 2) % 3, (axis + 1) % 3)
    edges = np.zeros((2, 3), np.float32)
    for edge, tangent in zip(edges, tangents, strict=True):
        edge[tangent] = size[tangent]
    corner = np.asarray(grid.origin_m, np.float32) + voxel * size
    corner[:, axis] += size[axis] * (sign > 0)
    count = len(voxel)
    return Quads(
        corner.astype(np.float32),
        np.broadcast_to(edges[0], (count, 3)),
        np.broadcast_to(edges[1], (count, 3)),
        rgb[tuple(voxel.T)].astype(np.float32) / np.float32(255),
        _corner_light(filled, voxel + _PAD + step, tangents),
        np.full(count, size.max(), np.float32),
    )


def _corner_light(
    filled: NDArray[np.bool_], cell: NDArray[np.int64], tangents: tuple[int, int]
) -> NDArray[np.float32]:
    """Return the light at the corners (a, b) of the faces before the free cells (N, 3).

    Two filled cells beside a corner close it whatever lies behind them.
    """
    light = np.empty((len(cell), 2, 2), np.float32)
    for a in (0, 1):
        for b in (0, 1):
            along_a, along_b = np.zeros(3, np.int64), np.zeros(3, np.int64)
            along_a[tangents[0]], along_b[tangents[1]] = 2 * a - 1, 2 * b - 1
            side_a = filled[tuple((cell + along_a).T)]
            side_b = filled[tuple((cell + along_b).T)]
            behind = filled[tuple((cell + along_a + along_b).T)]
            both = side_a & side_b
            count = side_a.astype(int) + side_b + (behind | both)
            light[:, a, b] = CORNER_LIGHT[count]
    return light
