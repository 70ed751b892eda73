"""Messages <-> numpy, without a running graph."""

import cv2
import numpy as np
import pytest

pytest.importorskip('rclpy')

from builtin_interfaces.msg import Time
from sensor_msgs.msg import CompressedImage, Image

from cigocc_ros.ros.dropped import DroppedFrame
from cigocc_ros.ros.input import images as conversions
from cigocc_ros.ros.input.images import depth_from_image, rgb_from_compressed, rgb_from_image
from cigocc_ros.ros.output.clouds import byte_array
from cigocc_ros.ros.players.kitti_messages import image_from_depth, image_from_rgb
from cigocc_ros.ros.stamps import stamp_from_ns, stamp_to_ns

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def message(array: np.ndarray, encoding: str, padding: int = 0, big: bool = False) -> Image:
    rows = np.ascontiguousarray(array).view(np.uint8).reshape(array.shape[0], -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    image = Image(height=array.shape[0], width=array.shape[1], encoding=encoding)
    image.step, image.is_bigendian = rows.shape[1], int(big)
    image.data = byte_array(rows)
    return image


def reason(function, *arguments) -> str:
    with pytest.raises(DroppedFrame) as caught:
        function(*arguments)
    assert str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize('padding', [0, 1, 9])
def test_rows_may_be_padded(padding):
    np.testing.assert_array_equal(rgb_from_image(message(RGB, 'rgb8', padding)), RGB)


def test_rgb_without_padding_is_not_copied_and_cannot_be_changed():
    image = message(RGB, 'rgb8')
    decoded = rgb_from_image(image)
    assert np.shares_memory(decoded, np.frombuffer(image.data, np.uint8))
    with pytest.raises(ValueError, match='read-only'):
        decoded[0, 0] = 0


@pytest.mark.parametrize('with_opencv', [True, False])
def test_channel_orders(monkeypatch, with_opencv):
    monkeypatch.setattr(conversions, 'has_cv2', lambda: with_opencv)
    alpha = np.full((5, 7, 1), 3, np.uint8)
    bgr = RGB[..., ::-1]
    for array, encoding in (
        (bgr, 'bgr8'),
        (np.concatenate([RGB, alpha], -1), 'rgba8'),
        (np.concatenate([bgr, alpha], -1), 'bgra8'),
    ):
        decoded = rgb_from_image(message(array, encoding, padding=2))
        np.testing.assert_array_equal(decoded, RGB, err_msg=encoding)
        assert decoded.flags.c_contiguous


@pytest.mark.parametrize('with_opencv', [True, False])
def test_grey_becomes_three_equal_channels(monkeypatch, with_opencv):
    monkeypatch.setattr(conversions, 'has_cv2', lambda: with_opencv)
    decoded = rgb_from_image(message(RGB[..., 0], 'mono8', padding=3))
    np.testing.assert_array_equal(decoded, np.repeat(RGB[..., :1], 3, axis=2))


@pytest.mark.parametrize('big', [False, True])
def test_16_bit_keeps_the_high_byte(big):
    values = np.array([[0x1234, 0xFF00, 0x00FF]], dtype='>u2' if big else '<u2')
    decoded = rgb_from_image(message(values, 'mono16', big=big))
    assert decoded[0, :, 0].tolist() == [0x12, 0xFF, 0x00]


@pytest.mark.parametrize('pattern', ['rggb', 'bggr', 'gbrg', 'grbg'])
@pytest.mark.parametrize('bits', [8, 16])
def test_bayer_mosaic_of_a_plain_colour(pattern, bits):
    colour = {'r': 200, 'g': 100, 'b': 50}
    tile = np.array([colour[c] for c in pattern], np.uint8).reshape(2, 2)
    mosaic = np.tile(tile, (6, 6))
    if bits == 16:
        mosaic = mosaic.astype('<u2') << 8
    decoded = rgb_from_image(message(mosaic, f'bayer_{pattern}{bits}'))
    np.testing.assert_allclose(decoded[4, 4], [200, 100, 50], atol=1)


def test_yuv_grey():
    yuyv = np.tile(np.array([150, 128], np.uint8), (4, 6, 1))
    np.testing.assert_allclose(rgb_from_image(message(yuyv, 'yuv422_yuy2')), 156, atol=2)
    np.testing.assert_allclose(rgb_from_image(message(yuyv[..., ::-1], 'uyvy')), 156, atol=2)


def test_rgb_round_trip():
    np.testing.assert_array_equal(rgb_from_image(image_from_rgb(RGB)), RGB)


def test_bad_images_say_why():
    good = message(RGB, 'rgb8')
    short = message(RGB, 'rgb8')
    short.data = short.data[:-1]
    narrow = message(RGB, 'rgb8')
    narrow.step = 20
    assert rgb_from_image(good).shape == (5, 7, 3)
    assert reason(rgb_from_image, short) == 'truncated_image'
    assert reason(rgb_from_image, narrow) == 'wrong_step'
    assert reason(rgb_from_image, message(RGB, 'holo9')) == 'unknown_encoding'
    assert reason(rgb_from_image, Image(encoding='rgb8')) == 'empty_image'
    assert reason(rgb_from_image, Image(encoding='holo9')) == 'empty_image'
    huge = Image(encoding='rgb8', width=2**31, height=1, step=3)
    assert reason(rgb_from_image, huge) == 'oversized_image'


def test_compressed_images():
    png = cv2.imencode('.png', RGB[..., ::-1])[1].tobytes()
    decoded = rgb_from_compressed(CompressedImage(format='png', data=png))
    np.testing.assert_array_equal(decoded, RGB)
    broken = CompressedImage(format='jpeg', data=b'\xff\xd8nonsense')
    assert reason(rgb_from_compressed, broken) == 'broken_compressed_image'
    assert reason(rgb_from_compressed, CompressedImage(format='jpeg')) == 'empty_image'


def test_depth_in_metres_marks_what_is_not_measured():
    values = np.array([[1.5, np.nan, -1.0], [np.inf, 0.0, 80.0]], np.float32)
    depth = depth_from_image(message(values, '32FC1', padding=4))
    assert depth.depth_m.tolist() == [[1.5, 0, 0], [0, 0, 80]]
    assert depth.rejected_px == 3


@pytest.mark.parametrize('big', [False, True])
def test_depth_in_millimetres_honours_the_byte_order(big):
    values = np.array([[0, 1500, 65535]], dtype='>u2' if big else '<u2')
    depth = depth_from_image(message(values, '16UC1', padding=2, big=big))
    np.testing.assert_allclose(depth.depth_m, [[0, 1.5, 65.535]], rtol=1e-6)
    assert depth.depth_m.dtype == np.float32


def test_big_endian_depth_in_metres():
    values = np.array([[2.25, -3.0]], dtype='>f4')
    assert depth_from_image(message(values, '32FC1', big=True)).depth_m.tolist() == [[2.25, 0]]


def test_depth_of_another_encoding_is_refused():
    assert reason(depth_from_image, message(RGB, 'rgb8')) == 'unknown_encoding'


def test_depth_round_trip():
    depth = np.array([[0, 3.5]], np.float32)
    sent = image_from_depth(depth)
    assert np.isnan(np.frombuffer(sent.data, '<f4')[0])
    np.testing.assert_array_equal(depth_from_image(sent).depth_m, depth)


@pytest.mark.parametrize('stamp_ns', [0, 1, 999_999_999, 1_000_000_000, 1_795_406_921_359_860_921])
def test_stamps_round_trip(stamp_ns):
    assert stamp_to_ns(stamp_from_ns(stamp_ns)) == stamp_ns


def test_a_stamp_is_seconds_and_nanoseconds():
    assert stamp_from_ns(2_500_000_001) == Time(sec=2, nanosec=500_000_001)
