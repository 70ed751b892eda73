"""KITTI odometry's text files: calib.txt, times.txt and poses.txt."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.atomic import read_bytes, write_atomically
from cigocc_ros.core.errors import CalibrationError, DataFileError
from cigocc_ros.core.plain_files import cut, shown

MAX_TEXT_BYTES = 64_000_000
"""Poses of 200 000 frames; KITTI's longest sequence has 4661."""
CALIB_ROWS = ('P0', 'P1', 'P2', 'P3', 'Tr')
Array = NDArray[np.float64]


def read_calib(path: str | Path, required: Sequence[str] = CALIB_ROWS) -> dict[str, Array]:
    """Return the matrices of a calib.txt by name, each (3, 4) float64.

    P0..P3 are the projections [K | p] of points in the frame of camera 0, in pixels and metres;
    Tr is cam0_from_velo. Raises CalibrationError where a line is not `name: 12 numbers` or one of
    the `required` rows is missing, DataFileError where the file cannot be read.
    """
    path = Path(path)
    calib: dict[str, Array] = {}
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
        raise CalibrationError(
            f'{path}: expected the rows {", ".join(required)}, found '
            f'{cut(", ".join(calib) or "none")}; {", ".join(missing)} missing. Tr is in the '
            'calib.txt of the SemanticKITTI and odometry (velodyne) downloads'
        )
    return calib


def write_calib(path: str | Path, calib: Mapping[str, NDArray[Any]]) -> None:
    """Write a calib.txt from matrices (3, 4) by name; every float64 is read back exactly."""
    rows = [f'{name}: {_row(matrix, name)}' for name, matrix in calib.items()]
    _write_lines(Path(path), rows)


def read_poses(path: str | Path) -> Array:
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


def read_times(path: str | Path) -> Array:
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


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the number and text of each line that is not blank."""
    try:
        text = read_bytes(path, MAX_TEXT_BYTES).decode('utf-8')
    except UnicodeDecodeError as error:
        raise DataFileError(f'{path}: expected a text file: {error}') from error
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            yield number, line.strip()


def _write_lines(path: Path, rows: list[str]) -> None:
    write_atomically(path, ''.join(f'{row}\n' for row in rows))


def _row(matrix: NDArray[Any], name: str) -> str:
    values = np.asarray(matrix, dtype=np.float64)
    if values.shape != (3, 4):
        raise DataFileError(f'{name} must be (3, 4), found {values.shape}')
    return ' '.join(f'{value:.16e}' for value in values.ravel())


def _matrix(text: str, where: str, error: type[ValueError]) -> Array:
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
            raise error(f'{where}: expected a number, found {shown(word)}') from None
        if not math.isfinite(number):
            raise error(f'{where}: expected a finite number, found {shown(word)}')
        numbers.append(number)
    return numbers
