"""calib.txt, poses.txt and times.txt: a clear error, or numbers that are written back exactly.

A file of its own: a target is chosen by the name of its module.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cigocc_ros.core.errors import CigoccError
from cigocc_ros.data import kitti_files as text_files

ROW = b'7.1e+02 0 6.0e+02 4.4e+01 0 7.1e+02 1.8e+02 2.1e-01 0 0 1 2.7e-03\n'


def seeds() -> list[bytes]:
    """Return inputs: a byte that chooses the file, then its content."""
    names = (b'P0', b'P1', b'P2', b'P3', b'Tr')
    calib = b''.join(name + b': ' + ROW for name in names)
    return [b'\0' + calib, b'\1' + 3 * ROW, b'\2' + b'0.0\n1.0e-01\n\n2.0e-01\n', b'\0P2: nan']


def run(data: bytes, folder: Path) -> None:
    """Read the content as the file that its first byte chooses."""
    path = folder / 'file.txt'
    path.write_bytes(data[1:])
    try:
        (_calib, _poses, _times)[(data[:1] or b'\0')[0] % 3](path)
    except CigoccError as error:
        assert len(str(error)) < 2000


def _calib(path: Path) -> None:
    calib = text_files.read_calib(path, required=('P2',))
    assert all(matrix.shape == (3, 4) for matrix in calib.values())
    if all(name and '\n' not in name for name in calib):
        text_files.write_calib(path, calib)
        again = text_files.read_calib(path, required=())
        assert calib.keys() == again.keys()
        assert all(np.array_equal(calib[name], again[name]) for name in calib)


def _poses(path: Path) -> None:
    poses = text_files.read_poses(path)
    assert poses.shape[1:] == (4, 4) and np.isfinite(poses).all()
    text_files.write_poses(path, poses)
    assert np.array_equal(text_files.read_poses(path), poses)


def _times(path: Path) -> None:
    times = text_files.read_times(path)
    assert (np.diff(times) > 0).all()
    text_files.write_times(path, times)
    assert np.array_equal(text_files.read_times(path), times)
