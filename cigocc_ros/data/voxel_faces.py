"""Occupied voxels as triangles, and who can see past them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.arrays import Floats
from cigocc_ros.core.grid import VoxelGrid
from cigocc_ros.data.raycast import RayCaster


def voxel_triangles(occupied: NDArray[np.bool_], grid: VoxelGrid) -> Floats:
    """Return the outer faces of occupied voxels (X, Y, Z) as triangles (T, 3, 3), metres."""
    padded = np.pad(occupied, 1)
    size, origin = np.array(grid.voxel_size_m), np.array(grid.origin_m)
    triangles = []
    for axis in range(3):
        first, second = np.eye(3)[[other for other in range(3) if other != axis]] * size
        for side in (0, 1):
            neighbour = np.roll(padded, 1 - 2 * side, axis)[1:-1, 1:-1, 1:-1]
            low = origin + np.argwhere(occupied & ~neighbour) * size
            low[:, axis] += side * size[axis]
            high = low + first + second
            triangles.append(np.stack([low, low + first, high], axis=1))
            triangles.append(np.stack([low, high, low + second], axis=1))
    return np.concatenate(triangles)


class VoxelOccluders:
    """Occupied voxels as obstacles of straight lines; built once, asked for many sensors."""

    def __init__(self, occupied: NDArray[np.bool_], grid: VoxelGrid) -> None:
        """Take the occupied voxels (X, Y, Z) of a grid."""
        self._occupied = occupied
        self._grid = grid
        self._caster = RayCaster(voxel_triangles(occupied, grid))

    def hide(self, points: NDArray[Any], sensor: NDArray[Any]) -> NDArray[np.bool_]:
        """Say which points (N, 3) outside occupied voxels a sensor (3,) cannot see, (N,).

        The voxel that the sensor is in hides nothing: what was hit there has moved on.
        """
        caster = self._caster
        index, inside = self._grid.index_of(np.reshape(sensor, (1, 3)))
        if inside[0] and self._occupied[tuple(index[0])]:
            others = self._occupied.copy()
            others[tuple(index[0])] = False
            caster = RayCaster(voxel_triangles(others, self._grid))
        return caster.blocked(points, sensor - points)
