"""SemanticKITTI's files of one lidar scan: points (.bin) and their labels (.label)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.atomic import read_bytes, write_atomically
from cigocc_ros.core.errors import DataFileError

POINT_BYTES = 16
LABEL_BYTES = 4
SEMANTIC_MASK = 0xFFFF
MAX_POINTS = 16_000_000
"""Of one scan; KITTI's have 130 000."""


def read_velodyne(path: str | Path) -> NDArray[np.float32]:
    """Return a scan, (N, 4) float32: x, y, z in metres (velodyne frame) and remission.

    Raises DataFileError where the size of the file is no multiple of 16 bytes.
    """
    path = Path(path)
    content = read_bytes(path, POINT_BYTES * MAX_POINTS)
    _check_multiple(path, len(content), POINT_BYTES, 'points of 4 float32')
    return np.frombuffer(content, dtype='<f4').reshape(-1, 4).astype(np.float32)


def write_velodyne(path: str | Path, points: NDArray[Any]) -> None:
    """Write a scan (N, 4): x, y, z, remission."""
    scan = np.ascontiguousarray(points, dtype='<f4')
    if scan.ndim != 2 or scan.shape[1] != 4:
        raise DataFileError(f'{path}: a scan must be (N, 4), found {scan.shape}')
    write_atomically(Path(path), scan.tobytes())


def read_point_labels(path: str | Path, num_points: int | None = None) -> NDArray[np.uint16]:
    """Return the raw semantic id of each point, (N,) uint16: the lower half of each uint32.

    Raises DataFileError where the file holds no whole labels, or not `num_points` of them.
    """
    labels, _ = read_point_instances(path, num_points)
    return labels


def read_point_instances(
    path: str | Path, num_points: int | None = None
) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Return raw semantic id and instance id of each point, both (N,) uint16."""
    path = Path(path)
    content = read_bytes(path, LABEL_BYTES * MAX_POINTS)
    _check_multiple(path, len(content), LABEL_BYTES, 'uint32 labels')
    packed = np.frombuffer(content, dtype='<u4')
    if num_points is not None and packed.size != num_points:
        raise DataFileError(
            f'{path}: expected {num_points} labels, one a point of the scan '
            f'({num_points * LABEL_BYTES} bytes), found {packed.size} ({len(content)} bytes)'
        )
    return (packed & SEMANTIC_MASK).astype(np.uint16), (packed >> 16).astype(np.uint16)


def write_point_labels(
    path: str | Path, labels: NDArray[Any], instances: NDArray[Any] | None = None
) -> None:
    """Write raw semantic ids (N,) and, where given, instance ids (N,), both below 65536."""
    semantic = _halves(path, 'label', labels)
    instance = np.zeros_like(semantic) if instances is None else _halves(path, 'id', instances)
    if semantic.shape != instance.shape:
        raise DataFileError(f'{path}: {semantic.size} labels but {instance.size} instance ids')
    write_atomically(Path(path), (instance << 16 | semantic).astype('<u4').tobytes())


def _halves(path: str | Path, name: str, values: NDArray[Any]) -> NDArray[np.uint32]:
    """Return values (N,) as uint32; raise DataFileError where one needs more than 16 bits."""
    array = np.asarray(values)
    if array.ndim != 1 or (array.size and not 0 <= array.min() <= array.max() <= SEMANTIC_MASK):
        raise DataFileError(f'{path}: each {name} must be 0..65535, in one dimension')
    return array.astype(np.uint32)


def _check_multiple(path: Path, found: int, size: int, what: str) -> None:
    if found % size:
        raise DataFileError(
            f'{path}: expected {what}, a multiple of {size} bytes, found {found} bytes: '
            'the file is truncated or of another kind'
        )
