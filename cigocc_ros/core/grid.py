"""The voxel grid: where it lies, how fine it is, and index <-> metre."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.text import excerpt

Triple = tuple[float, float, float]
Shape = tuple[int, int, int]
MAX_VOXELS = 1 << 26
"""Of a grid: 32 times SemanticKITTI's."""


@dataclass(frozen=True)
class VoxelGrid:
    """A regular grid of boxes in a REP-103 frame: x forward, y left, z up.

    Arrays over it are indexed [x][y][z] in C order. Voxel (i, j, k) covers
    `origin_m + voxel_size_m * [(i, j, k), (i, j, k) + 1)`.
    """

    origin_m: Triple
    voxel_size_m: Triple
    shape: Shape

    def __post_init__(self) -> None:
        """Normalise the fields to tuples of plain numbers and refuse impossible ones."""
        try:
            origin = tuple(float(value) for value in self.origin_m)
            size = tuple(float(value) for value in self.voxel_size_m)
            shape = tuple(int(value) for value in self.shape)
        except (TypeError, ValueError, OverflowError) as error:
            raise ConfigError(
                f'a voxel grid needs numbers in threes, found {excerpt(self)}'
            ) from error
        if not len(origin) == len(size) == len(shape) == 3:
            raise ConfigError(f'a voxel grid needs numbers in threes, found {excerpt(self)}')
        if not all(math.isfinite(value) for value in origin + size):
            raise ConfigError(f'origin_m and voxel_size_m must be finite, found {excerpt(self)}')
        if min(size) <= 0 or min(shape) <= 0:
            raise ConfigError(f'voxel_size_m and shape must be positive, found {excerpt(self)}')
        if math.prod(shape) > MAX_VOXELS:
            raise ConfigError(f'a grid has at most {MAX_VOXELS} voxels, found {excerpt(shape)}')
        object.__setattr__(self, 'origin_m', origin)
        object.__setattr__(self, 'voxel_size_m', size)
        object.__setattr__(self, 'shape', shape)

    @property
    def extent_m(self) -> Triple:
        """Edge lengths of the whole grid in metres."""
        x, y, z = (n * size for n, size in zip(self.shape, self.voxel_size_m, strict=True))
        return x, y, z

    @property
    def max_m(self) -> Triple:
        """Upper corner in metres (exclusive)."""
        x, y, z = (o + e for o, e in zip(self.origin_m, self.extent_m, strict=True))
        return x, y, z

    @property
    def num_voxels(self) -> int:
        """Number of voxels."""
        return math.prod(self.shape)

    @cached_property
    def axis_centers_m(self) -> tuple[NDArray[np.float64], ...]:
        """Voxel centres along x, y and z in metres: (X,), (Y,), (Z,); not to be written to."""
        rows = zip(self.origin_m, self.voxel_size_m, self.shape, strict=True)
        centers = tuple(
            origin + (np.arange(count, dtype=np.float64) + 0.5) * size
            for origin, size, count in rows
        )
        for along in centers:
            along.flags.writeable = False
        return centers

    def split_index(self, flat: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
        """Return i, j, k, (N,) each, of indices (N,) into the raveled grid; unchecked."""
        _, size_y, size_z = self.shape
        column = flat // size_z
        row = column // size_y
        return row, column - row * size_y, flat - column * size_z

    def centers_m(self) -> NDArray[np.float64]:
        """Return the voxel centres, (X, Y, Z, 3) float64 metres."""
        return self.center_of(np.moveaxis(np.indices(self.shape), 0, -1))

    def center_of(self, index: NDArray[Any]) -> NDArray[np.float64]:
        """Return the centres of the voxels `index` (..., 3), in metres."""
        size = np.asarray(self.voxel_size_m)
        centers: NDArray[np.float64] = self.origin_m + (np.asarray(index) + 0.5) * size
        return centers

    def index_of(self, points_m: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the voxel index (N, 3) int64 of each point (N, 3) and whether it is inside, (N,).

        The index of a point outside, or of a point that is not finite, is -1.
        """
        points = np.asarray(points_m, dtype=np.float64)
        scaled = (points - np.asarray(self.origin_m)) / np.asarray(self.voxel_size_m)
        with np.errstate(invalid='ignore'):
            inside = np.all((scaled >= 0) & (scaled < np.asarray(self.shape)), axis=-1)
        index = np.full(points.shape, -1, dtype=np.int64)
        index[inside] = np.floor(scaled[inside]).astype(np.int64)
        return index, inside

    def with_shape(self, shape: Shape) -> VoxelGrid:
        """Return the grid of the same extent divided into `shape` voxels."""
        x, y, z = (extent / n for extent, n in zip(self.extent_m, shape, strict=True))
        return VoxelGrid(self.origin_m, (x, y, z), shape)

    def to_dict(self) -> dict[str, list[float] | list[int]]:
        """Return a plain mapping for YAML and JSON."""
        return {
            'origin_m': list(self.origin_m),
            'voxel_size_m': list(self.voxel_size_m),
            'shape': list(self.shape),
        }

    @classmethod
    def from_dict(cls, mapping: Mapping[str, Any]) -> VoxelGrid:
        """Build a grid from `to_dict`'s mapping; raise ConfigError on unknown or missing keys."""
        expected = {'origin_m', 'voxel_size_m', 'shape'}
        if not isinstance(mapping, Mapping) or set(mapping) != expected:
            found = list(mapping) if isinstance(mapping, Mapping) else mapping
            raise ConfigError(
                f'a grid needs exactly the keys {sorted(expected)}, found {excerpt(found)}'
            )
        return cls(**mapping)


SEMANTIC_KITTI_GRID = VoxelGrid((0.0, -25.6, -2.0), (0.2, 0.2, 0.2), (256, 256, 32))
"""SemanticKITTI's scene-completion volume in the velodyne frame."""
