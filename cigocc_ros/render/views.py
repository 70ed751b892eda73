"""Where the picture is taken from: behind and above the vehicle, or from the top."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.grid import VoxelGrid

CHASE, TOP = 'chase', 'top'
VIEWS = (CHASE, TOP)
# the chase camera in shares of the grid's length along x, seen from the middle of its near side
CHASE_EYE, CHASE_TARGET = (-0.48, 0.0, 0.36), (0.36, 0.0, -0.005)
# half the picture spans at least these tangents across and down, so that the grid's length fits
CHASE_TAN_ACROSS, CHASE_TAN_DOWN = 0.58, 0.265
# taller pictures look down more steeply: the eye rises with height / width, within limits
CHASE_RISE_FROM, CHASE_RISE_MOST = 0.45, 1.7
TOP_MARGIN_M, TOP_MARGIN_BEHIND_M = 1.0, 3.5


@dataclass(frozen=True)
class Viewpoint:
    """A pinhole or orthographic camera in the grid's frame.

    eye: position, metres. right, down, forward: axes; a ray through the picture plane coordinates
    (s, t), each in multiples of half the width, starts at `eye + plane * (s right + t down)` and
    runs along `forward + tan * (s right + t down)`. One of `plane_m` and `tan` is zero.
    """

    eye: NDArray[np.float64]
    right: NDArray[np.float64]
    down: NDArray[np.float64]
    forward: NDArray[np.float64]
    plane_m: float
    tan: float

    def rays(
        self, width: int, height: int, samples: int, rows: slice
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return origins and unit directions (R * samples * W * samples, 3) of the pixel rows."""
        columns = (np.arange(width * samples) + 0.5) / (width * samples) * 2 - 1
        lines = np.arange(rows.start * samples, rows.stop * samples) + 0.5
        lines = (lines / samples - height / 2) / (width / 2)
        offset = columns[:, None] * self.right + (lines[:, None] * self.down)[:, None]
        offset = offset.reshape(-1, 3).astype(np.float32)
        directions = self.forward.astype(np.float32) + np.float32(self.tan) * offset
        directions /= np.sqrt(np.einsum('ij,ij->i', directions, directions))[:, None]
        origins = self.eye.astype(np.float32) + np.float32(self.plane_m) * offset
        return origins.astype(np.float32, copy=False), directions.astype(np.float32, copy=False)

    def pixel_m(self, width: int) -> NDArray[np.float32]:
        """Return (2,): the width of a pixel is the first plus the second times the distance."""
        return np.array([self.plane_m, self.tan], np.float32) * np.float32(2 / width)

    def project(self, point: NDArray[np.float64], width: int, height: int) -> tuple[float, float]:
        """Return the pixel (column, row), in pixel edges, where a point (3,) is drawn."""
        offset = point - self.eye
        depth = offset @ self.forward if self.tan else 1.0
        scale = (self.tan * depth if self.tan else self.plane_m) * 2 / width
        column = offset @ self.right / scale + width / 2
        row = offset @ self.down / scale + height / 2
        return float(column), float(row)


def chase_view(grid: VoxelGrid, width: int, height: int) -> Viewpoint:
    """Return the view from behind and above the near side of the grid, looking forward (+x)."""
    length = grid.extent_m[0]
    anchor = _near_side_middle(grid)
    rise = float(np.clip(height / width / CHASE_RISE_FROM, 1.0, CHASE_RISE_MOST))
    eye = anchor + length * np.array(CHASE_EYE) * [1.0, 1.0, rise]
    target = anchor + length * np.array(CHASE_TARGET)
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    tan = max(CHASE_TAN_ACROSS, CHASE_TAN_DOWN * width / height)
    return Viewpoint(eye, right, np.cross(forward, right), forward, 0.0, tan)


def top_view(grid: VoxelGrid, width: int, height: int) -> Viewpoint:
    """Return the view straight down on the whole grid, x (forward) up and y (left) to the left."""
    low = np.asarray(grid.origin_m) - [TOP_MARGIN_BEHIND_M, TOP_MARGIN_M, 0]
    high = np.asarray(grid.max_m) + TOP_MARGIN_M
    middle, span = (low + high) / 2, high - low
    plane = max(span[1], span[0] * width / height) / 2
    eye = np.array([middle[0], middle[1], high[2]])
    right, up, forward = np.array([[0.0, -1, 0], [-1, 0, 0], [0, 0, -1]])
    return Viewpoint(eye, right, up, forward, plane_m=float(plane), tan=0.0)


def make_view(name: str, grid: VoxelGrid, width: int, height: int) -> Viewpoint:
    """Return the view called `name` (one of VIEWS)."""
    return chase_view(grid, width, height) if name == CHASE else top_view(grid, width, height)


def _near_side_middle(grid: VoxelGrid) -> NDArray[np.float64]:
    low, high = np.asarray(grid.origin_m), np.asarray(grid.max_m)
    return np.array([low[0], (low[1] + high[1]) / 2, low[2]])
