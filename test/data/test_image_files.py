"""Colour, depth and class images: round trips and what is refused."""

import numpy as np
import pytest

from cigocc_ros.core.errors import DataFileError
from cigocc_ros.data.image_files import (
    MAX_DEPTH_M,
    read_depth_file,
    read_depth_image,
    read_image,
    read_semantic_image,
    write_depth_image,
    write_image,
    write_semantic_image,
)


def test_colours_survive_in_rgb_order(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    image[0, 0] = (255, 0, 0)
    write_image(tmp_path / 'a.png', image)
    np.testing.assert_array_equal(read_image(tmp_path / 'a.png'), image)
    from PIL import Image

    with Image.open(tmp_path / 'a.png') as other_reader:
        assert other_reader.convert('RGB').getpixel((0, 0)) == (255, 0, 0)


def test_depth_survives_to_half_a_step_and_unknown_stays_unknown(tmp_path):
    depth = np.random.default_rng(0).uniform(0, 200, (6, 8)).astype(np.float32)
    depth[0] = 0
    depth[1, 0] = 1e-4
    write_depth_image(tmp_path / 'a.png', depth)
    read = read_depth_image(tmp_path / 'a.png')
    assert read.dtype == np.float32
    assert not read[0].any()
    assert read[1, 0] == 1 / 256
    np.testing.assert_allclose(read[2:], depth[2:], atol=0.5 / 256 + 1e-6)


@pytest.mark.parametrize('bad', [-1.0, np.nan, np.inf, MAX_DEPTH_M])
def test_impossible_depths_are_not_written(tmp_path, bad):
    with pytest.raises(DataFileError, match=r'0 \(unknown\) to 256\.00 m'):
        write_depth_image(tmp_path / 'a.png', np.array([[1.0, bad]], np.float32))
    assert not list(tmp_path.iterdir())


def test_classes_survive_and_unknown_ids_are_named(tmp_path):
    labels = np.array([[0, 19, 255], [3, 4, 5]], np.uint8)  # 255 + 20 wraps to 19
    write_semantic_image(tmp_path / 'a.png', labels)
    np.testing.assert_array_equal(read_semantic_image(tmp_path / 'a.png'), labels)
    write_semantic_image(tmp_path / 'b.png', labels + np.uint8(20))
    with pytest.raises(DataFileError, match=r'found \[20, 23, 24, 25, 39\]'):
        read_semantic_image(tmp_path / 'b.png')


def test_files_of_another_kind_are_named(tmp_path):
    (tmp_path / 'a.png').write_bytes(b'not an image')
    with pytest.raises(DataFileError, match=r'a\.png: 12 bytes are no image'):
        read_image(tmp_path / 'a.png')
    (tmp_path / 'b.png').write_bytes(b'')
    with pytest.raises(DataFileError, match='0 bytes are no image'):
        read_image(tmp_path / 'b.png')
    write_image(tmp_path / 'c.png', np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(DataFileError, match='a depth image is uint16'):
        read_depth_image(tmp_path / 'c.png')
    with pytest.raises(DataFileError, match='a class image is uint8'):
        read_semantic_image(tmp_path / 'c.png')


def test_depth_of_a_network_in_either_format(tmp_path):
    depth = np.random.default_rng(0).uniform(2, 80, (6, 8)).astype(np.float32)
    depth[0] = 0
    write_depth_image(tmp_path / 'a.png', depth)
    np.testing.assert_array_equal(
        read_depth_file(tmp_path / 'a.png'), read_depth_image(tmp_path / 'a.png')
    )
    for dtype in (np.float16, np.float32, np.float64):
        unknown = depth.astype(dtype)
        unknown[0, :3] = (np.nan, np.inf, -np.inf)
        unknown[0, 3] = -1
        np.save(tmp_path / 'a.npy', unknown)
        read = read_depth_file(tmp_path / 'a.npy')
        assert read.dtype == np.float32 and not read[0].any()
        np.testing.assert_array_equal(read[1:], depth[1:].astype(dtype).astype(np.float32))


@pytest.mark.parametrize(
    ('array', 'says'),
    [
        (np.full((4, 5), 9000.0), 'median of 9000: are these millimetres'),
        (np.zeros((4, 5)), 'none known'),
        (np.full((4, 5), np.nan), 'none known'),
        (np.full((4, 5), 9000, np.uint16), r'floating-point metres \(H, W\), found uint16'),
        (np.full((1, 4, 5), 9.0), r'found float64 \(1, 4, 5\)'),
        (np.full((4, 5), 9j), 'found complex128'),
    ],
)
def test_arrays_that_are_no_metres_are_refused(array, says, tmp_path):
    np.save(tmp_path / 'a.npy', array)
    with pytest.raises(DataFileError, match=says):
        read_depth_file(tmp_path / 'a.npy')
