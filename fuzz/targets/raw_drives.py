"""Calibration and timestamps of KITTI raw: a clear error, or a sequence that reads back.

A file of its own: a target is chosen by the name of its module.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from cigocc_ros.core.errors import CigoccError
from cigocc_ros.data import kitti_files as text_files
from cigocc_ros.data import kitti_raw

FILES = (kitti_raw.CAMERAS, kitti_raw.VELODYNE, str(Path('drive') / kitti_raw.TIMES))
ROTATION = b'1 0 0 0 1 0 0 0 1'
ROW = b'7.1e+02 0 6.0e+02 4.4e+01 0 7.1e+02 1.8e+02 2.1e-01 0 0 1 2.7e-03'
GOOD = (
    b'calib_time: 09-Jan-2012 13:57:47\nR_rect_00: ' + ROTATION + b'\n'
    + b''.join(b'P_rect_0%d: %s\n' % (camera, ROW) for camera in range(4)),
    b'R: ' + ROTATION + b'\nT: -4e-03 -7.6e-02 -2.7e-01\n',
    b'2011-09-26 13:02:25.594360375\n2011-09-26 13:02:25.697982\n',
)  # fmt: skip


def seeds() -> list[bytes]:
    """Return inputs: a byte that chooses the file, then its content; the others are good."""
    good = [bytes([number]) + content for number, content in enumerate(GOOD)]
    long_word = b'\1R: 1 0 0 0 1 0 0 0 ' + 3000 * b'x'
    return [*good, long_word, b'\2' + b'2011-09-26 13:02:25\n', b'\1R: nan']


def run(data: bytes, folder: Path) -> None:
    """Make a sequence of a drive, one of whose files has the content."""
    date = folder / 'date'
    shutil.rmtree(date, ignore_errors=True)
    (date / 'drive' / kitti_raw.LEFT).mkdir(parents=True)
    for name, content in zip(FILES, GOOD, strict=True):
        (date / name).write_bytes(content)
    (date / FILES[(data[:1] or b'\0')[0] % len(FILES)]).write_bytes(data[1:])
    try:
        sequence = kitti_raw.link_as_sequence(date / 'drive', date / 'sequence')
        calib = text_files.read_calib(sequence / 'calib.txt')
        times_s = text_files.read_times(sequence / 'times.txt')
    except CigoccError as error:
        assert len(str(error)) < 2000
        return
    assert set(calib) == {'P0', 'P1', 'P2', 'P3', 'Tr'}
    assert all(matrix.shape == (3, 4) and np.isfinite(matrix).all() for matrix in calib.values())
    assert times_s[0] == 0 and (np.diff(times_s) > 0).all()
