"""Ray-cast one anti-aliased picture of a voxel map."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.grid import VoxelGrid
from cigocc_ros.core.labels import PALETTE_RGB
from cigocc_ros.render.quads import Quads, merge
from cigocc_ros.render.scenery import ego_marker, ground_plate
from cigocc_ros.render.shading import BACKGROUND_BOTTOM, BACKGROUND_TOP, Shader
from cigocc_ros.render.views import CHASE, VIEWS, View, make_view
from cigocc_ros.render.voxel_mesh import voxel_quads

SAMPLES = 2  # per pixel and axis
_ROWS_AT_ONCE = 64  # keeps the arrays of a picture within some 100 MB


def draw_voxels(
    labels: NDArray[np.uint8],
    grid: VoxelGrid,
    size: tuple[int, int],
    view: str = CHASE,
    scenery: bool = True,
    palette: NDArray[np.uint8] = PALETTE_RGB,
) -> NDArray[np.uint8]:
    """Return the picture (H, W, 3) uint8 rgb of train ids (X, Y, Z); 0 and 255 are not drawn.

    palette: (N, 3) uint8 rgb by label. size: (width, height) px. view: one of VIEWS. scenery: draw
    ground plate and vehicle too.
    """
    width, height = size
    if labels.shape != grid.shape:
        raise ConfigError(f'labels {labels.shape} do not fit a grid of {grid.shape}')
    if view not in VIEWS or min(size) < 1:
        raise ConfigError(f'expected a view of {VIEWS} and a positive size, found {view}, {size}')
    scene = voxel_quads(labels, grid, palette)
    if scenery:
        scene = merge([scene, ground_plate(grid), ego_marker()])
    return cast_picture(scene, make_view(view, grid, width, height), width, height)


def cast_picture(scene: Quads, view: View, width: int, height: int) -> NDArray[np.uint8]:
    """Return the picture (H, W, 3) uint8 of quads over the background."""
    shader, pixel_m = Shader(scene), view.pixel_m(width)
    background = _background(height)
    strips = []
    for start in range(0, height, _ROWS_AT_ONCE):
        rows = slice(start, min(start + _ROWS_AT_ONCE, height))
        colours = shader(*view.rays(width, height, SAMPLES, rows), pixel_m)
        blocks = colours.reshape(rows.stop - start, SAMPLES, width, SAMPLES, 4)
        mean = blocks.mean(axis=(1, 3))
        strips.append(mean[..., :3] + (1 - mean[..., 3:]) * background[rows])
    return np.rint(np.concatenate(strips) * 255).astype(np.uint8)


def _background(height: int) -> NDArray[np.float32]:
    """Return the sky, (H, 1, 3)."""
    share = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    blend: NDArray[np.float32] = BACKGROUND_TOP * (1 - share) + BACKGROUND_BOTTOM * share
    return blend
