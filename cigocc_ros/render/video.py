"""Pictures as an H.264 video that browsers and players show.

A file of its own: nothing else needs PyAV.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.errors import ConfigError, DataFileError
from cigocc_ros.core.files import replacing

QUALITY_CRF = 20  # 0 is lossless, 51 the worst; voxel edges blur above some 24
SUFFIX = '.mp4'


def write_video(path: Path, pictures: Iterable[NDArray[np.uint8]], fps: int) -> int:
    """Write pictures (H, W, 3) uint8 rgb of one size as MP4 and return their number.

    H.264, yuv420p, which wants even sizes: an odd last row or column is left out. Raises
    ConfigError for another suffix or rate, and DataFileError where writing fails or the pictures
    differ in size or are none.
    """
    if path.suffix.lower() != SUFFIX or fps < 1:
        raise ConfigError(f'expected a file {SUFFIX} and at least 1 fps, found {path} and {fps}')
    with replacing(path) as temporary:
        count = _encode(temporary, pictures, fps)
        if not count:
            raise DataFileError(f'{path}: no picture to write')
    return count


def _encode(path: Path, pictures: Iterable[NDArray[np.uint8]], fps: int) -> int:
    import av

    count, stream = 0, None
    with av.open(str(path), 'w', format='mp4', options={'movflags': 'faststart'}) as container:
        for picture in pictures:
            even = picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2]
            if stream is None:
                stream = container.add_stream('libx264', rate=fps)
                stream.height, stream.width = even.shape[:2]
                stream.pix_fmt = 'yuv420p'
                stream.options = {'crf': str(QUALITY_CRF)}
            elif even.shape[:2] != (stream.height, stream.width):
                size = f'{stream.width}x{stream.height}'
                raise DataFileError(f'picture {count} is {even.shape[1]}x{even.shape[0]}, the '
                                    f'first was {size}')  # fmt: skip
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format='rgb24')
            container.mux(stream.encode(frame))
            count += 1
        if stream is not None:
            container.mux(stream.encode())
    return count
