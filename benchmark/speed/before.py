"""What the hot path was before it was profiled, kept to show what each change brought."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import Image

from cigocc_ros.core.frames import Occupancy
from cigocc_ros.core.labels import CLASS_NAMES, PALETTE_RGB
from cigocc_ros.core.point_records import OCCUPANCY_DTYPE, axis_centers_m, packed_palette
from cigocc_ros.ros.input.images import image_rows
from cigocc_ros.ros.output.cdr import CubeList
from cigocc_ros.runtime.preprocess import ImageFit


def rgb_from_image(message: Image, order: tuple[int, ...]) -> NDArray[np.uint8]:
    """Fancy indexing, which transposes, then a second copy."""
    pixels = image_rows(message, 3).reshape(message.height, message.width, 3)
    return np.ascontiguousarray(pixels[..., order])


def apply_depth(fit: ImageFit, depth_m: NDArray[np.float32]) -> NDArray[np.float32]:
    """Two-dimensional fancy indexing with indices made for every frame."""
    rows, columns = fit.kept_size
    (height, width), (scaled_height, scaled_width) = fit.source_size, fit.scaled_size
    row = np.arange(fit.crop_top, fit.crop_top + rows)
    row = np.minimum((2 * row + 1) * height // (2 * scaled_height), height - 1)
    column = (2 * np.arange(columns) + 1) * width // (2 * scaled_width)
    placed = np.zeros((fit.camera_in.height, fit.camera_in.width), np.float32)
    placed[:rows, :columns] = depth_m[row[:, None], np.minimum(column, width - 1)]
    return placed


def occupancy_points(occupancy: Occupancy) -> NDArray[Any]:
    """Three-dimensional nonzero and fancy indexing."""
    index = np.nonzero(occupancy.occupied)
    points = np.empty(index[0].size, dtype=OCCUPANCY_DTYPE)
    for name, centers, along in zip('xyz', axis_centers_m(occupancy.grid), index, strict=True):
        points[name] = centers[along]
    labels = occupancy.labels[index]
    points['rgb'] = packed_palette()[labels]
    points['label'] = labels
    points['probability'] = occupancy.probability[index] / np.float32(255)
    return points


def surface_voxels(occupied: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Windows of a padded volume."""
    padded = np.pad(occupied, 1)
    buried = occupied.copy()
    for axis in range(3):
        for shift in (0, 2):
            window = [slice(1, -1)] * 3
            window[axis] = slice(shift, shift + occupied.shape[axis])
            buried &= padded[tuple(window)]
    return occupied & ~buried


def cube_lists(occupancy: Occupancy) -> list[CubeList]:
    """One pass over all cubes per class."""
    index = np.argwhere(surface_voxels(occupancy.occupied))
    centers = occupancy.grid.center_of(index)
    labels = occupancy.labels[tuple(index.T)]
    size_m = occupancy.grid.voxel_size_m
    return [
        CubeList(CLASS_NAMES[i], int(i), tuple(PALETTE_RGB[i]), size_m, centers[labels == i])
        for i in np.unique(labels)
    ]
