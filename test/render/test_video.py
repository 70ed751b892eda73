"""Videos decode to the pictures that went in."""

import numpy as np
import pytest

from cigocc_ros.core.errors import ConfigError, DataFileError

pytest.importorskip('av')

import av

from cigocc_ros.render.video import write_video

COLOURS = [(200, 30, 30), (30, 200, 30), (30, 30, 200)]


def pictures(*sizes: tuple[int, int]) -> list[np.ndarray]:
    return [np.full((*size, 3), COLOURS[i % 3], np.uint8) for i, size in enumerate(sizes)]


def test_frames_come_back_in_order_and_colour(tmp_path):
    path = tmp_path / 'new' / 'video.mp4'
    assert write_video(path, pictures(*[(65, 81)] * 3), fps=5) == 3
    with av.open(str(path)) as opened:
        stream = opened.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ('h264', 'yuv420p')
        assert float(stream.average_rate) == 5
        frames = [frame.to_ndarray(format='rgb24') for frame in opened.decode(video=0)]
    assert [frame.shape for frame in frames] == [(64, 80, 3)] * 3
    for frame, colour in zip(frames, COLOURS, strict=True):
        np.testing.assert_allclose(frame.mean(axis=(0, 1)), colour, atol=12)


@pytest.mark.parametrize(
    ('name', 'sizes', 'fps', 'error'),
    [
        ('video.avi', [(64, 64)], 5, ConfigError),
        ('video.mp4', [(64, 64)], 0, ConfigError),
        ('video.mp4', [], 5, DataFileError),
        ('video.mp4', [(64, 64), (32, 64)], 5, DataFileError),
    ],
)
def test_what_cannot_be_leaves_no_file(tmp_path, name, sizes, fps, error):
    with pytest.raises(error):
        write_video(tmp_path / name, pictures(*sizes), fps)
    assert not list(tmp_path.iterdir())
