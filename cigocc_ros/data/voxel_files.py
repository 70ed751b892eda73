"""SemanticKITTI's voxel files: one bit a voxel (.bin .invalid .occluded) or uint16 (.label).

Voxels are stored in C order of [x][y][z]; the first of eight is the highest bit of its byte.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.atomic import read_bytes, write_atomically
from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.grid import MAX_VOXELS, SEMANTIC_KITTI_GRID, Shape

MAX_VOLUME_BYTES = 2 * MAX_VOXELS


def read_voxel_bits(
    path: str | Path, shape: Shape = SEMANTIC_KITTI_GRID.shape
) -> NDArray[np.bool_]:
    """Return a bit volume (X, Y, Z) bool; raise DataFileError where its length is wrong."""
    num_voxels = math.prod(shape)
    content = _read_exactly(Path(path), (num_voxels + 7) // 8, f'1 bit for each voxel of {shape}')
    bits = np.unpackbits(np.frombuffer(content, dtype=np.uint8), count=num_voxels)
    return bits.view(np.bool_).reshape(shape)


def write_voxel_bits(path: str | Path, bits: NDArray[np.bool_]) -> None:
    """Write a bit volume (X, Y, Z) bool."""
    if bits.dtype != np.bool_ or bits.ndim != 3:
        raise DataFileError(f'{path}: bits must be bool (X, Y, Z), found {_described(bits)}')
    write_atomically(Path(path), np.packbits(bits).tobytes())


def read_voxel_labels(
    path: str | Path, shape: Shape = SEMANTIC_KITTI_GRID.shape
) -> NDArray[np.uint16]:
    """Return the raw class ids (X, Y, Z) uint16; raise DataFileError where the length is wrong."""
    content = _read_exactly(Path(path), 2 * math.prod(shape), f'a uint16 a voxel of {shape}')
    return np.frombuffer(content, dtype='<u2').reshape(shape).astype(np.uint16)


def write_voxel_labels(path: str | Path, raw_labels: NDArray[Any]) -> None:
    """Write raw class ids (X, Y, Z) uint16 (see core.labels.raw_from_train)."""
    if raw_labels.dtype != np.uint16 or raw_labels.ndim != 3:
        found = _described(raw_labels)
        raise DataFileError(f'{path}: raw labels must be uint16 (X, Y, Z), found {found}')
    write_atomically(Path(path), raw_labels.astype('<u2').tobytes())


def _read_exactly(path: Path, num_bytes: int, what: str) -> bytes:
    content = read_bytes(path, MAX_VOLUME_BYTES)
    if len(content) != num_bytes:
        raise DataFileError(
            f'{path}: expected {num_bytes} bytes ({what}), found {len(content)}: '
            'the file is truncated, or of another grid or kind'
        )
    return content


def _described(array: NDArray[Any]) -> str:
    return f'{array.dtype} {array.shape}'
