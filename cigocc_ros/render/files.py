"""Files in and out: camera images, label files of any grid, PNG pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.grid import VoxelGrid
from cigocc_ros.core.labels import IGNORE, train_from_raw


def load_labels(path: Path, grid: VoxelGrid) -> NDArray[np.uint8]:
    """Return the train ids (X, Y, Z) of a `.label` file of raw ids, 255 where unknown.

    A `.invalid` file beside it, as SemanticKITTI ships it with the ground truth, marks the voxels
    nothing is known of. Raises DataFileError on a wrong length or on unknown ids.
    """
    from cigocc_ros.data.kitti_files import read_voxel_bits, read_voxel_labels

    raw = read_voxel_labels(path, grid.shape)
    try:
        labels = train_from_raw(raw)
    except DataFileError as error:
        raise DataFileError(f'{path}: {error}') from error
    invalid = path.with_suffix('.invalid')
    if invalid.is_file():
        labels[read_voxel_bits(invalid, grid.shape)] = IGNORE
    return labels


def load_image(path: Path) -> NDArray[np.uint8]:
    """Return an image file as (H, W, 3) uint8 rgb; raise DataFileError where it is not one."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as opened:
            return np.asarray(opened.convert('RGB'))
    except FileNotFoundError as error:
        raise DataFileError(f'no image file {path}') from error
    except (UnidentifiedImageError, OSError) as error:
        raise DataFileError(f'{path} is not an image that can be read: {error}') from error


def save_picture(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write (H, W, 3) uint8 rgb as PNG, creating the folder."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path, compress_level=4)
