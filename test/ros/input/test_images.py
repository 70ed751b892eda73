"""Messages <-> numpy, without a running graph."""

import cv2
import numpy as np
import pytest

pytest.importorskip('rclpy')

from builtin_interfaces.msg import Time
from sensor_msgs.msg import CompressedImage, Image

from cigocc_ros.ros.dropped import DroppedFrame
from cigocc_ros.ros.input import images as conversions
from cigocc_ros.ros.input.images import format_doubt, rgb_from_compressed, rgb_from_image
from cigocc_ros.ros.output.clouds import byte_array
from cigocc_ros.ros.players.kitti_messages import image_from_rgb
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


def compressed(pixels, stated, suffix='.png') -> CompressedImage:
    return CompressedImage(format=stated, data=cv2.imencode(suffix, pixels)[1].tobytes())


PICTURE = cv2.GaussianBlur(
    np.random.default_rng(1).integers(0, 256, (96, 160, 3), dtype=np.uint8), (0, 0), 2
)


@pytest.mark.parametrize('stated', ['png', '', 'bgr8; png compressed bgr8', 'nonsense'])
def test_compressed_images(stated):
    decoded = rgb_from_compressed(compressed(RGB[..., ::-1], stated))
    np.testing.assert_array_equal(decoded, RGB)


def test_compressed_images_that_are_none():
    broken = CompressedImage(format='jpeg', data=b'\xff\xd8nonsense')
    assert reason(rgb_from_compressed, broken) == 'broken_compressed_image'
    assert reason(rgb_from_compressed, CompressedImage(format='jpeg')) == 'empty_image'


@pytest.mark.parametrize('pattern', ['rggb', 'bggr', 'gbrg', 'grbg'])
@pytest.mark.parametrize('suffix', ['.png', '.jpg'])
def test_a_compressed_mosaic_becomes_a_colour_picture(pattern, suffix):
    """As compressed_image_transport sends it: the mosaic of the sensor, squeezed as grey."""
    colour = {'r': 180, 'g': 120, 'b': 60}
    mosaic = np.tile(np.array([colour[c] for c in pattern], np.uint8).reshape(2, 2), (12, 12))
    codec = {'.png': 'png', '.jpg': 'jpeg'}[suffix]
    sent = compressed(mosaic, f'bayer_{pattern}8; {codec} compressed ', suffix)
    np.testing.assert_allclose(rgb_from_compressed(sent)[8, 8], [180, 120, 60], atol=25)
    of_equal_channels = compressed(np.repeat(mosaic[..., None], 3, -1), sent.format, '.png')
    assert np.ptp(rgb_from_compressed(of_equal_channels)[8, 8].astype(int)) > 90


def test_a_mosaic_of_16_bits_and_one_that_was_interpolated_by_its_sender():
    mosaic = np.tile(np.array([[200, 100], [100, 50]], np.uint16) << 8, (12, 12))
    decoded = rgb_from_compressed(compressed(mosaic, 'bayer_rggb16; png compressed '))
    np.testing.assert_allclose(decoded[8, 8], [200, 100, 50], atol=2)
    done = compressed(PICTURE, 'bayer_rggb8; png compressed bgr8')
    np.testing.assert_array_equal(rgb_from_compressed(done), PICTURE[..., ::-1])
    unstated = compressed(PICTURE, 'bayer_rggb8; png compressed ')
    np.testing.assert_array_equal(rgb_from_compressed(unstated), PICTURE[..., ::-1])
    unknown = compressed(mosaic, 'bayer_xtrans8; png compressed ')
    assert reason(rgb_from_compressed, unknown) == 'unknown_encoding'


@pytest.mark.parametrize(
    'stated', ['16UC1; png compressed ', '32FC1; compressedDepth png', '16UC1; compressedDepth']
)
def test_compressed_depth_is_no_picture(stated):
    depth = compressed(np.full((8, 8), 1500, np.uint16), stated)
    assert reason(rgb_from_compressed, depth) == 'unknown_encoding'


def test_red_and_blue_that_the_format_says_are_exchanged_are_doubted():
    assert 'exchanged' in format_doubt(compressed(RGB, 'rgb8; jpeg compressed rgb8', '.jpg'))
    assert not format_doubt(compressed(RGB, 'rgb8; jpeg compressed bgr8', '.jpg'))
    assert not format_doubt(message(RGB, 'rgb8'))


def test_an_orientation_in_the_metadata_is_not_followed():
    """Exif says "turn by 90 degrees"; the calibration speaks of the pixels of the sensor."""
    jpeg = cv2.imencode('.jpg', PICTURE)[1].tobytes()
    entry = b'\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00'
    exif = b'Exif\0\0MM\0*\x00\x00\x00\x08\x00\x01' + entry + bytes(4)
    turned = jpeg[:2] + b'\xff\xe1' + (len(exif) + 2).to_bytes(2, 'big') + exif + jpeg[2:]
    assert cv2.imdecode(np.frombuffer(turned, np.uint8), 1).shape == (160, 96, 3)
    decoded = rgb_from_compressed(CompressedImage(format='jpeg', data=turned))
    assert decoded.shape == (96, 160, 3)


@pytest.mark.parametrize('stamp_ns', [0, 1, 999_999_999, 1_000_000_000, 1_795_406_921_359_860_921])
def test_stamps_round_trip(stamp_ns):
    assert stamp_to_ns(stamp_from_ns(stamp_ns)) == stamp_ns


def test_a_stamp_is_seconds_and_nanoseconds():
    assert stamp_from_ns(2_500_000_001) == Time(sec=2, nanosec=500_000_001)
