"""Read single image and depth files by path."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.errors import DataFileError
from cigocc_ros.data.kitti_sequence import DEPTH_SCALE, _import_cv2


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Return an image of any format OpenCV reads as (H, W, 3) uint8 rgb."""
    cv2 = _import_cv2()
    rgb: NDArray[np.uint8] = cv2.cvtColor(_decode(path, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    return rgb


def read_depth_png(path: Path) -> NDArray[np.float32]:
    """Return a KITTI depth PNG (16 bit, metres * 256) as (H, W) float32 metres, 0 unknown."""
    stored = _decode(path, _import_cv2().IMREAD_UNCHANGED)
    if stored.dtype != np.uint16 or stored.ndim != 2:
        raise DataFileError(
            f'{path}: expected a 16 bit grey PNG of metres * {DEPTH_SCALE:g}, found '
            f'{stored.dtype} {stored.shape}'
        )
    return stored.astype(np.float32) / np.float32(DEPTH_SCALE)


def _decode(path: Path, flag: int) -> NDArray[np.uint8]:
    if not path.is_file():
        raise DataFileError(f'{path}: no such image file')
    pixels: NDArray[np.uint8] | None = _import_cv2().imread(str(path), flag)
    if pixels is None:
        raise DataFileError(f'{path}: not an image that OpenCV reads; is it cut short?')
    return pixels
