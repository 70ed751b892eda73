"""Images on disk: colour, depth (KITTI's uint16 of metres * 256) and train-id class images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.arrays import read_array
from cigocc_ros.core.encoded_images import decode_image
from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.files import read_bytes, write_atomically
from cigocc_ros.core.labels import IGNORE, NUM_CLASSES

MAX_IMAGE_BYTES = 500_000_000
DEPTH_STEPS_PER_M = 256
MAX_DEPTH_M = 65535 / DEPTH_STEPS_PER_M
LARGEST_MEDIAN_M = 300.0
"""Of the depths of a street; what is more is of another unit."""


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """Return a colour image, (H, W, 3) uint8 rgb; raise DataFileError."""
    image = _decode(Path(path))
    rgb: NDArray[np.uint8] = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return rgb


def write_image(path: str | Path, image: NDArray[np.uint8]) -> None:
    """Write (H, W, 3) uint8 rgb in the format of the suffix (.png is lossless)."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise DataFileError(f'{path}: an image must be uint8 (H, W, 3), found {_described(image)}')
    _encode(Path(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))


def read_depth_image(path: str | Path) -> NDArray[np.float32]:
    """Return metres along the optical axis, (H, W) float32, 0 = unknown; raise DataFileError."""
    steps = _decode(Path(path), grey=True)
    if steps.dtype != np.uint16 or steps.ndim != 2:
        raise DataFileError(f'{path}: a depth image is uint16 (H, W), found {_described(steps)}')
    return steps.astype(np.float32) / np.float32(DEPTH_STEPS_PER_M)


def read_depth_file(path: str | Path) -> NDArray[np.float32]:
    """Return metres along the optical axis, (H, W) float32, 0 = unknown, of a .png or .npy.

    A .png holds uint16 of metres * 256, as KITTI's. A .npy holds floating-point metres (H, W);
    what is not finite or not above 0 is unknown, as in REP 118. Raises DataFileError for anything
    else, and where not one depth is known or the median of them cannot be metres.
    """
    path = Path(path)
    if path.suffix != '.npy':
        return read_depth_image(path)
    metres = read_array(path)
    if metres.dtype.kind != 'f' or metres.ndim != 2:
        raise DataFileError(
            f'{path}: expected floating-point metres (H, W), found {_described(metres)}'
        )
    known = np.isfinite(metres) & (metres > 0)
    depth_m = np.where(known, metres, 0).astype(np.float32)
    if not known.any() or np.median(depth_m[known]) > LARGEST_MEDIAN_M:
        found = f'a median of {np.median(depth_m[known]):g}' if known.any() else 'none known'
        raise DataFileError(
            f'{path}: expected depths in metres, whose median is at most {LARGEST_MEDIAN_M:g}, '
            f'found {found}: are these millimetres, or disparities?'
        )
    return depth_m


def write_depth_image(path: str | Path, depth_m: NDArray[Any]) -> None:
    """Write metres (H, W), 0 = unknown, in steps of 1/256 m; a known depth never becomes 0.

    Raises DataFileError for depths that are negative, not finite or above 255.99 m.
    """
    if not (np.isfinite(depth_m).all() and (depth_m >= 0).all() and (depth_m < MAX_DEPTH_M).all()):
        raise DataFileError(
            f'{path}: depths must be 0 (unknown) to {MAX_DEPTH_M:.2f} m, found '
            f'{np.min(depth_m)} to {np.max(depth_m)}'
        )
    steps = np.rint(np.asarray(depth_m, dtype=np.float64) * DEPTH_STEPS_PER_M)
    steps = np.where(depth_m > 0, np.maximum(steps, 1), 0)
    _encode(Path(path), steps.astype(np.uint16))


def read_label_image(path: str | Path) -> NDArray[np.uint8]:
    """Return the ids of a class image, (H, W) uint8, whatever they mean; raise DataFileError."""
    labels = _decode(Path(path), grey=True)
    if labels.dtype != np.uint8 or labels.ndim != 2:
        raise DataFileError(f'{path}: a class image is uint8 (H, W), found {_described(labels)}')
    return labels.astype(np.uint8, copy=False)


def read_semantic_image(path: str | Path) -> NDArray[np.uint8]:
    """Return train ids, (H, W) uint8: 0..19, 255 = unknown; raise DataFileError."""
    labels = read_label_image(path)
    if ((labels >= NUM_CLASSES) & (labels != IGNORE)).any():
        found = np.setdiff1d(labels, [*range(NUM_CLASSES), IGNORE])[:8].tolist()
        raise DataFileError(f'{path}: train ids are 0..{NUM_CLASSES - 1} or 255, found {found}')
    return labels


def write_semantic_image(path: str | Path, labels: NDArray[np.uint8]) -> None:
    """Write train ids (H, W) uint8 as a lossless PNG."""
    if labels.dtype != np.uint8 or labels.ndim != 2:
        raise DataFileError(f'{path}: labels must be uint8 (H, W), found {_described(labels)}')
    _encode(Path(path), labels)


def _decode(path: Path, grey: bool = False) -> NDArray[Any]:
    return decode_image(read_bytes(path, MAX_IMAGE_BYTES), str(path), grey)


def _encode(path: Path, image: NDArray[Any]) -> None:
    try:
        ok, encoded = cv2.imencode(path.suffix, image)
    except cv2.error as error:
        raise DataFileError(f'{path}: cannot be encoded: {error}') from error
    if not ok:
        raise DataFileError(f'{path}: cannot be encoded as {path.suffix!r}')
    write_atomically(path, encoded.tobytes())


def _described(array: NDArray[Any]) -> str:
    return f'{array.dtype} {array.shape}'
