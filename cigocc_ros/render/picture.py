"""What is drawn besides the voxels: the ground plate with its scale, and the vehicle."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.grid import VoxelGrid
from cigocc_ros.core.labels import PALETTE_RGB
from cigocc_ros.render.quads import Quads, box, merge, quads
from cigocc_ros.render.shading import BACKGROUND_BOTTOM, BACKGROUND_TOP, Shader
from cigocc_ros.render.views import CHASE, VIEWS, Viewpoint, make_view
from cigocc_ros.render.voxel_mesh import voxel_quads

PLATE_RGB, PLATE_PITCH_M, PLATE_BEHIND_M = (0.86, 0.87, 0.89), 10.0, 10.0
EGO_RGB, EGO_CABIN_RGB = (0.98, 0.98, 0.98), (0.25, 0.28, 0.33)
EGO_GROUND_M = -1.73  # KITTI: height of the velodyne above the road


def ground_plate(grid: VoxelGrid) -> Quads:
    """Return a plate under the grid, ruled every 10 m, that reaches behind the vehicle."""
    (x, y, z), (length, width, _) = grid.origin_m, grid.extent_m
    corner = (x - PLATE_BEHIND_M, y, z - 0.01)
    edges = ((length + PLATE_BEHIND_M, 0, 0), (0, width, 0))
    return quads(corner, *edges, PLATE_RGB, PLATE_PITCH_M)


def ego_marker() -> Quads:
    """Return a plain car around the origin of the velodyne frame, heading along +x."""
    ground = np.array([0, 0, EGO_GROUND_M])
    return merge(
        [
            box(ground + (-2.6, -0.9, 0.35), ground + (1.7, 0.9, 0.95), EGO_RGB),
            box(ground + (-2.1, -0.78, 0.95), ground + (0.5, 0.78, 1.5), EGO_CABIN_RGB),
            box(ground + (-2.0, -0.74, 1.5), ground + (0.3, 0.74, 1.56), EGO_RGB),
            box(ground + (-2.4, -0.8, 0.0), ground + (1.5, 0.8, 0.35), EGO_CABIN_RGB),
        ]
    )


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


def cast_picture(scene: Quads, view: Viewpoint, width: int, height: int) -> NDArray[np.uint8]:
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
    picture: NDArray[np.uint8] = np.rint(np.concatenate(strips) * 255).astype(np.uint8)
    return picture


def _background(height: int) -> NDArray[np.float32]:
    """Return the sky, (H, 1, 3)."""
    share = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    blend: NDArray[np.float32] = BACKGROUND_TOP * (1 - share) + BACKGROUND_BOTTOM * share
    return blend
