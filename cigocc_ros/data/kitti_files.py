"""The files of a KITTI odometry / SemanticKITTI sequence that are not images.

Text (calib.txt, times.txt, poses.txt), scans and their labels, and voxel grids. kitti_layout says
where they lie.
"""

from __future__ import annotations

import codecs
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.arrays import Floats
from cigocc_ros.core.errors import CalibrationError, DataFileError
from cigocc_ros.core.files import read_bytes, write_atomically
from cigocc_ros.core.grid import MAX_VOXELS, SEMANTIC_KITTI_GRID, Shape
from cigocc_ros.core.labels import IGNORE, train_from_raw
from cigocc_ros.core.text import cut, excerpt

MAX_TEXT_BYTES = 64_000_000
"""Poses of 200 000 frames; KITTI's longest sequence has 4661."""
CALIB_ROWS = ('P0', 'P1', 'P2', 'P3', 'Tr')


def read_calib(path: str | Path, required: Sequence[str] = CALIB_ROWS) -> dict[str, Floats]:
    """Return the matrices of a calib.txt by name, each (3, 4) float64.

    P0..P3 are the projections [K | p] of points in the frame of camera 0, in pixels and metres;
    Tr is cam0_from_velo. Raises CalibrationError where a line is not `name: 12 numbers` or one of
    the `required` rows is missing, DataFileError where the file cannot be read.
    """
    path = Path(path)
    calib: dict[str, Floats] = {}
    for number, line in _lines(path):
        where = f'{path}, line {number}'
        name, colon, values = line.partition(':')
        if not colon:
            raise CalibrationError(f'{where}: expected "name: 12 numbers", found {line[:60]!r}')
        if name.strip() in calib:
            raise CalibrationError(f'{where}: {cut(name.strip())} is there twice; keep one')
        calib[name.strip()] = _matrix(values, f'{where} ({cut(name.strip())})', CalibrationError)
    missing = [name for name in required if name not in calib]
    if missing:
        found = cut(', '.join(map(ascii, calib)) or 'none')
        raise CalibrationError(
            f'{path}: expected the rows {", ".join(required)}, found {found}; '
            f'{", ".join(missing)} missing: {_what_instead(calib, missing)}'
        )
    return calib


def _what_instead(found: Collection[str], missing: Sequence[str]) -> str:
    """Say what differs between the rows that a calib.txt has and those that it lacks."""
    for name in missing:
        like = [other for other in found if _letters(other) == _letters(name)]
        if like:
            return f'write {name} where it says {ascii(like[0])}'
    if 'P_rect_02' in found:
        return (
            'this is calib_cam_to_cam.txt of KITTI raw: there P2 is P_rect_02, P3 P_rect_03 and '
            'Tr is R_rect_00 [R | T] of calib_velo_to_cam.txt; "cigocc bag" reads whole drives'
        )
    if 'Tr_velo_to_cam' in found:
        return 'this is a calibration of KITTI object; there Tr is R0_rect Tr_velo_to_cam'
    if list(missing) == ['Tr']:
        return (
            'that is the calib.txt of the grey or colour images alone; the one with Tr is in '
            "data_odometry_calib.zip of the KITTI odometry benchmark, and in SemanticKITTI's"
        )
    return 'take the calib.txt of data_odometry_calib.zip of the KITTI odometry benchmark'


def _letters(name: str) -> str:
    return ''.join(character for character in name if character.isalnum()).casefold()


def write_calib(path: str | Path, calib: Mapping[str, NDArray[Any]]) -> None:
    """Write a calib.txt from matrices (3, 4) by name; every float64 is read back exactly."""
    rows = [f'{name}: {_row(matrix, name)}' for name, matrix in calib.items()]
    _write_lines(Path(path), rows)


def read_poses(path: str | Path) -> Floats:
    """Return the poses world_from_cam0 of a poses.txt, (N, 4, 4); raise DataFileError."""
    path = Path(path)
    poses = [
        np.vstack([_matrix(line, f'{path}, line {number}', DataFileError), [0.0, 0.0, 0.0, 1.0]])
        for number, line in _lines(path)
    ]
    return np.array(poses).reshape(-1, 4, 4)


def write_poses(path: str | Path, poses: NDArray[Any]) -> None:
    """Write poses world_from_cam0, (N, 3 or 4, 4); every float64 is read back exactly."""
    _write_lines(Path(path), [_row(pose[:3], f'pose {i}') for i, pose in enumerate(poses)])


def read_times(path: str | Path) -> Floats:
    """Return the seconds of a times.txt, (N,) strictly increasing; raise DataFileError."""
    path = Path(path)
    times: list[float] = []
    for number, line in _lines(path):
        where = f'{path}, line {number}'
        (seconds,) = finite_numbers(line, 1, where, DataFileError)
        if times and not seconds > times[-1]:
            raise DataFileError(f'{where}: expected a time after {times[-1]} s, found {seconds}')
        times.append(seconds)
    return np.array(times, dtype=np.float64)


def write_times(path: str | Path, times_s: NDArray[Any]) -> None:
    """Write seconds, one a line; every float64 is read back exactly."""
    _write_lines(Path(path), [f'{seconds:.16e}' for seconds in np.asarray(times_s, np.float64)])


def read_text(path: Path) -> str:
    """Return a text file, UTF-8 with or without a byte-order mark; raise DataFileError."""
    content = read_bytes(path, MAX_TEXT_BYTES)
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataFileError(
            f'{path}: expected UTF-8, found UTF-16, which Windows PowerShell writes for ">": '
            'save it as UTF-8'
        )
    try:
        return content.decode('utf-8-sig')
    except UnicodeDecodeError as error:
        raise DataFileError(f'{path}: expected a text file in UTF-8: {error}') from error


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the number and text of each line that is not blank."""
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if line.strip():
            yield number, line.strip()


def _write_lines(path: Path, rows: list[str]) -> None:
    write_atomically(path, ''.join(f'{row}\n' for row in rows))


def _row(matrix: NDArray[Any], name: str) -> str:
    values = np.asarray(matrix, dtype=np.float64)
    if values.shape != (3, 4):
        raise DataFileError(f'{name} must be (3, 4), found {values.shape}')
    return ' '.join(f'{value:.16e}' for value in values.ravel())


def _matrix(text: str, where: str, error: type[ValueError]) -> Floats:
    return np.array(finite_numbers(text, 12, where, error)).reshape(3, 4)


def finite_numbers(text: str, count: int, where: str, error: type[ValueError]) -> list[float]:
    """Return the `count` finite numbers of a line; raise `error` for anything else."""
    words = text.split()
    if len(words) != count:
        raise error(f'{where}: expected {count} numbers, found {len(words)}')
    numbers = []
    for word in words:
        try:
            number = float(word)
        except ValueError:
            raise error(f'{where}: expected a number, found {excerpt(word)}') from None
        if not math.isfinite(number):
            raise error(f'{where}: expected a finite number, found {excerpt(word)}')
        numbers.append(number)
    return numbers


POINT_BYTES = 16
LABEL_BYTES = 4
SEMANTIC_MASK = 0xFFFF
MAX_POINTS = 16_000_000
"""Points of one scan; KITTI's have 130 000."""


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
    semantic = _as_16_bits(path, 'label', labels)
    instance = np.zeros_like(semantic) if instances is None else _as_16_bits(path, 'id', instances)
    if semantic.shape != instance.shape:
        raise DataFileError(f'{path}: {semantic.size} labels but {instance.size} instance ids')
    write_atomically(Path(path), (instance << 16 | semantic).astype('<u4').tobytes())


def _as_16_bits(path: str | Path, name: str, values: NDArray[Any]) -> NDArray[np.uint32]:
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


def read_target_labels(
    labels: Path, invalid: Path, shape: Shape = SEMANTIC_KITTI_GRID.shape
) -> NDArray[np.uint8]:
    """Return train ids (X, Y, Z) of a .label file; 255 where not scored or marked in .invalid.

    Raises DataFileError naming the file that is missing, of another size or with unknown ids.
    """
    raw = read_voxel_labels(labels, shape)
    try:
        targets = train_from_raw(raw)
    except DataFileError as error:
        raise DataFileError(f'{labels}: {error}') from error
    targets[read_voxel_bits(invalid, shape)] = IGNORE
    return targets


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
