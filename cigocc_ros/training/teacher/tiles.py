"""Show a network of fixed input size a whole image in overlapping tiles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class TilePlan:
    """Where tiles lie on a scaled image, (rows, columns).

    Network outputs are grids of `points` points, `stride` pixels apart, the first on pixel 0 of
    the tile. Tiles start at multiples of the stride, so that the grids of neighbours coincide.
    """

    scaled_size: tuple[int, int]
    points: int
    stride: int
    starts: tuple[tuple[int, ...], tuple[int, ...]]

    @classmethod
    def cover(cls, scaled_size: tuple[int, int], points: int, stride: int) -> TilePlan:
        """Cover the image with the fewest tiles, evenly spread; they may reach beyond it."""
        rows, columns = (_starts(size, points, stride) for size in scaled_size)
        return cls(scaled_size, points, stride, (rows, columns))

    @property
    def tile_size(self) -> int:
        """Pixels along each axis of a tile."""
        return (self.points - 1) * self.stride + 1

    @property
    def grid_size(self) -> tuple[int, int]:
        """Points of the merged grid (rows, columns), those on the image."""
        rows, columns = ((size - 1) // self.stride + 1 for size in self.scaled_size)
        return rows, columns

    def cut(self, image: NDArray[np.uint8], fill: int) -> list[NDArray[np.uint8]]:
        """Return the tiles of a scaled image (H, W, 3), filled with `fill` beyond its border."""
        padding = [
            (0, max(starts[-1] + self.tile_size - size, 0))
            for starts, size in zip(self.starts, self.scaled_size, strict=True)
        ]
        padded = np.pad(image, (*padding, (0, 0)), constant_values=fill)
        size = self.tile_size
        rows, columns = self.starts
        return [padded[v : v + size, u : u + size] for v in rows for u in columns]

    def merge(self, outputs: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Average (points, points, C) of each tile to (rows, columns, C).

        A point counts the more the farther it is from the border of its tile, where the network
        saw less around it.
        """
        size = [starts[-1] // self.stride + self.points for starts in self.starts]
        total = np.zeros((*size, outputs[0].shape[-1]), np.float32)
        weight = np.zeros((*size, 1), np.float32)
        tent = np.minimum(np.arange(self.points), np.arange(self.points)[::-1]) + 1.0
        window = np.multiply.outer(tent, tent)[..., None].astype(np.float32)
        rows, columns = ([s // self.stride for s in starts] for starts in self.starts)
        corners = [(row, column) for row in rows for column in columns]
        for (row, column), output in zip(corners, outputs, strict=True):
            place = np.s_[row : row + self.points, column : column + self.points]
            total[place] += window * output
            weight[place] += window
        height, width = self.grid_size
        merged: NDArray[np.float32] = (total / weight)[:height, :width].astype(np.float32)
        return merged


def interpolate(
    grid: NDArray[np.float32],
    size: tuple[int, int],
    origin_px: tuple[float, float],
    step_px: tuple[float, float],
) -> NDArray[np.float32]:
    """Sample (h, w, C) points bilinearly at every pixel of an (H, W) image, clamped outside."""
    rows, columns = (
        _interpolation(grid.shape[axis], size[axis], origin_px[axis], step_px[axis])
        for axis in (0, 1)
    )
    tall = np.tensordot(rows, grid, axes=(1, 0))  # (H, w, C)
    image: NDArray[np.float32] = np.matmul(columns, tall)
    return image


def _interpolation(points: int, size: int, origin: float, step: float) -> NDArray[np.float32]:
    position = np.clip((np.arange(size) - origin) / step, 0, points - 1)
    low = np.minimum(position.astype(np.int64), max(points - 2, 0))
    weights = np.zeros((size, points), np.float32)
    index = np.arange(size)
    np.add.at(weights, (index, low), 1 - (position - low))
    np.add.at(weights, (index, np.minimum(low + 1, points - 1)), position - low)
    return weights


def _starts(size: int, points: int, stride: int) -> tuple[int, ...]:
    reach = (points - 1) * stride + 1
    last = max(-(-(size - reach) // stride), 0)  # in strides
    count = -(-last // (points - 1)) + 1
    return tuple(int(round(k)) * stride for k in np.linspace(0, last, count))
