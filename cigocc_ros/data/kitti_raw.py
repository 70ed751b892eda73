"""A drive of KITTI's raw recordings as a sequence folder in the layout of KITTI odometry.

DATE/calib_cam_to_cam.txt  DATE/calib_velo_to_cam.txt
DATE/DRIVE_sync/image_02/{timestamps.txt,data/FFFFFFFFFF.png}   left colour camera
DATE/DRIVE_sync/image_03/data  DATE/DRIVE_sync/velodyne_points/data   where the drive has them
"""

from __future__ import annotations

import math
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.errors import CalibrationError, DataFileError
from cigocc_ros.core.frames import NANOSECONDS
from cigocc_ros.data.kitti_files import finite_numbers, read_text, write_calib, write_times
from cigocc_ros.data.kitti_layout import IMAGES, RIGHT_IMAGES, SCANS

LEFT, TIMES = Path('image_02', 'data'), Path('image_02', 'timestamps.txt')
FOLDERS = {
    IMAGES.folder: LEFT,
    RIGHT_IMAGES.folder: Path('image_03', 'data'),
    SCANS.folder: Path('velodyne_points', 'data'),
}
CAMERAS, VELODYNE = 'calib_cam_to_cam.txt', 'calib_velo_to_cam.txt'


def is_raw_drive(folder: Path) -> bool:
    """Say whether a folder is a drive of the rectified ('sync') raw recordings."""
    return (folder / LEFT).is_dir()


def link_as_sequence(drive: Path, into: Path) -> Path:
    """Make a sequence folder `into` with links to the images and scans of a drive; return it.

    calib.txt and times.txt are written: P0 to P3 are the rectified projections, Tr is
    R_rect_00 [R | T] of the lidar, times count from the first image. Raises DataFileError and
    CalibrationError naming the file that is not as it should be.
    """
    if not is_raw_drive(drive):
        raise DataFileError(f'{drive}: expected {LEFT} in a drive of KITTI raw (sync)')
    into.mkdir(parents=True)
    for name, source in FOLDERS.items():
        if (drive / source).is_dir():
            (into / name).symlink_to((drive / source).resolve(), target_is_directory=True)
    write_calib(into / 'calib.txt', _calibration(drive.resolve().parent))
    write_times(into / 'times.txt', _times_s(drive / TIMES))
    return into


def _calibration(date: Path) -> dict[str, NDArray[np.float64]]:
    cameras, velodyne = _rows(date / CAMERAS), _rows(date / VELODYNE)
    rectification, velo = np.eye(4), np.eye(4)
    rectification[:3, :3] = _numbers(cameras, 'R_rect_00', date / CAMERAS, (3, 3))
    velo[:3, :3] = _numbers(velodyne, 'R', date / VELODYNE, (3, 3))
    velo[:3, 3] = _numbers(velodyne, 'T', date / VELODYNE, (3,))
    calib = {f'P{i}': _numbers(cameras, f'P_rect_0{i}', date / CAMERAS, (3, 4)) for i in range(4)}
    return calib | {'Tr': (rectification @ velo)[:3]}


def _rows(path: Path) -> dict[str, str]:
    rows = (line.partition(':') for line in read_text(path).splitlines())
    return {name.strip(): values for name, colon, values in rows if colon}


def _numbers(
    rows: dict[str, str], name: str, path: Path, shape: tuple[int, ...]
) -> NDArray[np.float64]:
    if name not in rows:
        raise CalibrationError(f'{path}: expected a line "{name}: ...", found none')
    numbers = finite_numbers(rows[name], math.prod(shape), f'{path}, {name}', CalibrationError)
    return np.array(numbers).reshape(shape)


def _times_s(path: Path) -> NDArray[np.float64]:
    """Return seconds since the first line of timestamps like 2011-09-26 13:02:25.594360375."""
    lines = read_text(path).split('\n')
    stamps_ns = [_stamp_ns(line.strip(), path) for line in lines if line.strip()]
    if not stamps_ns:
        raise DataFileError(f'{path}: expected a timestamp for each image, found none')
    first_ns = stamps_ns[0]
    return np.array([(stamp - first_ns) / NANOSECONDS for stamp in stamps_ns])


def _stamp_ns(text: str, path: Path) -> int:
    seconds, _, fraction = text.partition('.')
    try:
        moment = datetime.strptime(seconds, '%Y-%m-%d %H:%M:%S').replace(tzinfo=timezone.utc)
        return int(moment.timestamp()) * NANOSECONDS + int(fraction.ljust(9, '0')[:9] or 0)
    except ValueError as error:
        raise DataFileError(
            f'{path}: expected lines like 2011-09-26 13:02:25.594360375, found {text[:60]!r}'
        ) from error
