"""Voxel and scan files: a clear error, or arrays whose bytes are those of the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cigocc_ros.core.errors import CigoccError
from cigocc_ros.core.labels import raw_from_train, train_from_raw
from cigocc_ros.data import kitti_files as scan_files
from cigocc_ros.data import kitti_files as voxel_files
from cigocc_ros.evaluation.predictions import prediction_labels


def seeds() -> list[bytes]:
    """Return inputs: kind, shape (3 bytes), then the content."""
    labels = np.array([0, 40, 252, 81, 10, 99, 0, 1], '<u2').tobytes()
    points = np.arange(12, dtype='<f4').tobytes()
    return [
        b'\0\2\2\2' + b'\xa5',
        b'\0\3\5\1' + b'\xff\xfe',
        b'\1\2\2\2' + labels,
        b'\2\2\2\2' + labels,
        b'\3\0\0\0' + points,
        b'\4\0\0\0' + points,
    ]


def run(data: bytes, folder: Path) -> None:
    """Read the content as the kind and shape that the first four bytes choose."""
    kind, *sizes = (data[:4] + b'\0\0\0\0')[:4]
    x, y, z = (1 + size % 8 for size in sizes)
    path = folder / 'file.bin'
    path.write_bytes(data[4:])
    try:
        (_bits, _labels, _predictions, _scan, _point_labels)[kind % 5](path, (x, y, z))
    except CigoccError as error:
        assert len(str(error)) < 2000


def _bits(path: Path, shape: tuple[int, int, int]) -> None:
    content = path.read_bytes()
    bits = voxel_files.read_voxel_bits(path, shape)
    assert bits.shape == shape
    voxel_files.write_voxel_bits(path, bits)
    unused = 8 * len(content) - bits.size
    last = content[-1] >> unused << unused
    assert path.read_bytes() == content[:-1] + bytes([last])


def _labels(path: Path, shape: tuple[int, int, int]) -> None:
    content = path.read_bytes()
    raw = voxel_files.read_voxel_labels(path, shape)
    voxel_files.write_voxel_labels(path, raw)
    assert raw.shape == shape and path.read_bytes() == content
    train = train_from_raw(raw)
    known = train != 255
    assert np.array_equal(train_from_raw(raw_from_train(train[known])), train[known])


def _predictions(path: Path, shape: tuple[int, int, int]) -> None:
    labels = prediction_labels(path.read_bytes(), str(path), shape)
    assert labels.shape == shape and labels.max() < 20


def _scan(path: Path, _shape: tuple[int, int, int]) -> None:
    content = path.read_bytes()
    scan_files.write_velodyne(path, scan_files.read_velodyne(path))
    assert path.read_bytes() == content


def _point_labels(path: Path, _shape: tuple[int, int, int]) -> None:
    content = path.read_bytes()
    scan_files.write_point_labels(path, *scan_files.read_point_instances(path))
    assert path.read_bytes() == content
