"""Files in and out: which belong to a frame, images, label files of any grid, PNG pictures."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.grid import VoxelGrid
from cigocc_ros.core.labels import IGNORE, train_from_raw


class FrameFiles(NamedTuple):
    """What is there of one frame."""

    labels: Path
    image: Path | None
    truth: Path | None


def frame_files(labels: Path, image: Path | None, truth: Path | None) -> list[FrameFiles]:
    """Return the frames of a label file, of a folder of them, or of a KITTI sequence folder.

    `image` and `truth` are files of one frame or folders, which may lack some. Raises
    DataFileError where there is no label file.
    """
    paths, images = _label_files(labels, image)
    return [
        FrameFiles(path, _beside(images, path.stem, '.png'), _beside(truth, path.stem, '.label'))
        for path in paths
    ]


def _label_files(labels: Path, image: Path | None) -> tuple[list[Path], Path | None]:
    """Return the label files and the image file or folder that goes with them."""
    if labels.is_file():
        return [labels], image
    if not labels.is_dir():
        raise DataFileError(f'no label file or folder {labels}')
    folder = labels / 'voxels' if (labels / 'voxels').is_dir() else labels
    if folder != labels and image is None and (labels / 'image_2').is_dir():
        image = labels / 'image_2'
    found = sorted(folder.glob('*.label'))
    if not found:
        raise DataFileError(f'no *.label file in {folder}')
    return found, image


def _beside(place: Path | None, stem: str, suffix: str) -> Path | None:
    """Return the file of a frame: `place` itself, or the one of that name in the folder.

    A folder may lack it: SemanticKITTI has ground truth for every fifth frame.
    """
    if place is None or not place.is_dir():
        return place
    path = place / f'{stem}{suffix}'
    return path if path.is_file() else None


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
