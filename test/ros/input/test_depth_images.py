"""Depth messages in metres: encodings, the compressed transport, units and far planes."""

import struct

import cv2
import numpy as np
import pytest

pytest.importorskip('rclpy')

from sensor_msgs.msg import CompressedImage, Image

from cigocc_ros.ros.dropped import DroppedFrame
from cigocc_ros.ros.input.depth_images import depth_from_image, depth_from_message
from cigocc_ros.ros.output.clouds import byte_array
from cigocc_ros.ros.players.kitti_messages import image_from_depth

RNG = np.random.default_rng(2)
SCENE_M = RNG.uniform(2, 40, (24, 32)).astype(np.float32)
SCENE_M[:4] = 0
WHOLE = SCENE_M.astype(np.uint16)


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


def test_depth_in_metres_marks_what_is_not_measured():
    values = np.array([[1.5, np.nan, -1.0], [np.inf, 0.0, 80.0]], np.float32)
    depth = depth_from_image(message(values, '32FC1', padding=4))
    assert depth.tolist() == [[1.5, 0, 0], [0, 0, 80]]


@pytest.mark.parametrize('big', [False, True])
def test_depth_in_millimetres_honours_the_byte_order(big):
    values = np.array([[0, 1500, 65534, 65535]], dtype='>u2' if big else '<u2')
    depth = depth_from_image(message(values, '16UC1', padding=2, big=big))
    # the largest number says "or more"
    np.testing.assert_allclose(depth, [[0, 1.5, 65.534, 0]], rtol=1e-6)
    assert depth.dtype == np.float32


def test_big_endian_depth_in_metres():
    values = np.array([[2.25, -3.0]], dtype='>f4')
    assert depth_from_image(message(values, '32FC1', big=True)).tolist() == [[2.25, 0]]


def test_depth_of_another_encoding_is_refused():
    rgb = np.zeros((5, 7, 3), np.uint8)
    assert reason(depth_from_image, message(rgb, 'rgb8')) == 'unknown_encoding'


def test_depth_round_trip():
    depth = np.array([[0, 3.5]], np.float32)
    sent = image_from_depth(depth)
    assert np.isnan(np.frombuffer(sent.data, '<f4')[0])
    np.testing.assert_array_equal(depth_from_image(sent), depth)


@pytest.mark.parametrize(
    ('array', 'encoding'),
    [
        (SCENE_M * 1000, '32FC1'),  # millimetres in floats
        (SCENE_M * 100 + 200, '32FC1'),  # centimetres of an indoor camera
        (SCENE_M.astype(np.uint16), '16UC1'),  # metres in integers
        (SCENE_M / 1000, '32FC1'),  # kilometres
    ],
)
def test_units_that_no_scene_has_are_refused(array, encoding):
    kind = np.uint16 if encoding == '16UC1' else np.float32
    assert reason(depth_from_message, message(array.astype(kind), encoding)) == 'prior_units'


def test_right_units_are_not_doubted():
    depth, doubt = depth_from_message(message(SCENE_M, '32FC1'))
    np.testing.assert_array_equal(depth, SCENE_M)
    assert doubt == ''
    raw = (SCENE_M * 1000).astype(np.uint16)
    assert depth_from_message(message(raw, '16UC1'))[1] == ''


@pytest.mark.parametrize('plane_m', [10.0, 60.0, 1000.0])
def test_the_far_plane_of_a_simulator_is_unknown_and_doubted(plane_m):
    clipped = np.minimum(np.where(SCENE_M > 9, plane_m, SCENE_M), plane_m).astype(np.float32)
    depth, doubt = depth_from_message(message(clipped, '32FC1'))
    assert not depth[clipped == plane_m].any() and f'{plane_m:g} m' in doubt
    np.testing.assert_array_equal(depth[clipped < plane_m], clipped[clipped < plane_m])


def test_a_plain_wall_is_no_far_plane():
    wall = np.full((24, 32), 12.5, np.float32)
    wall[:2] = np.nan
    depth, doubt = depth_from_message(message(wall, '32FC1'))
    assert doubt == '' and (depth[2:] == 12.5).all()


def sent_compressed(array, encoding, codec, a=0.0, b=0.0, data=None) -> CompressedImage:
    """Return what compressed_depth_image_transport/src/codec.cpp makes of 16-bit numbers."""
    if data is None:
        data = rvl(array) if codec == 'rvl' else cv2.imencode('.png', array)[1].tobytes()
    stated = f'{encoding}; compressedDepth {codec}'.rstrip()
    return CompressedImage(format=stated, data=struct.pack('<iff', 0, a, b) + data)


def rvl(array) -> bytes:
    """Encode by the description of RVL: nibbles of three bits, lowest first, into words."""
    nibbles, previous, pixels, at = [], 0, array.ravel().tolist(), 0

    def put(value):
        while True:
            more = value >> 3
            nibbles.append((value & 7) | (8 if more else 0))
            value = more
            if not value:
                return

    while at < len(pixels):
        zeros = 0
        while at + zeros < len(pixels) and pixels[at + zeros] == 0:
            zeros += 1
        at += zeros
        known = 0
        while at + known < len(pixels) and pixels[at + known] != 0:
            known += 1
        put(zeros)
        put(known)
        for value in pixels[at : at + known]:
            delta = value - previous
            put((delta << 1) ^ (-1 if delta < 0 else 0))
            previous = value
        at += known
    nibbles += [0] * (-len(nibbles) % 8)
    words = [
        int(''.join(f'{n:x}' for n in nibbles[i : i + 8]), 16) for i in range(0, len(nibbles), 8)
    ]
    size = struct.pack('<II', array.shape[1], array.shape[0])
    return size + struct.pack(f'<{len(words)}I', *words)


@pytest.mark.parametrize('codec', ['png', '', 'rvl'])
def test_compressed_depth_in_millimetres(codec):
    raw = np.rint(SCENE_M * 1000).astype(np.uint16)
    depth, _ = depth_from_message(sent_compressed(raw, '16UC1', codec))
    np.testing.assert_allclose(depth, raw * 0.001, rtol=1e-6)


@pytest.mark.parametrize('codec', ['png', 'rvl'])
def test_compressed_depth_in_metres_is_inverse_depth(codec):
    """Quantised as in codec.cpp, with its defaults: depth_quantization 100, depth_max 100."""
    quantisation, farthest = 100.0, 100.0
    a = quantisation * (quantisation + 1)
    b = 1 - a / farthest
    with np.errstate(divide='ignore'):
        stored = np.where(SCENE_M > 0, a / SCENE_M + b, 0).astype(np.uint16)
    depth, _ = depth_from_message(sent_compressed(stored, '32FC1', codec, a, b))
    assert not depth[SCENE_M == 0].any()
    np.testing.assert_allclose(depth[SCENE_M > 0], SCENE_M[SCENE_M > 0], rtol=0.01)


@pytest.mark.parametrize(
    ('sent', 'expected'),
    [
        (CompressedImage(format='16UC1; compressedDepth png'), 'empty_image'),
        (
            sent_compressed(WHOLE, '16UC1', 'zstd', data=b'x' * 9),
            'unknown_encoding',
        ),
        (sent_compressed(SCENE_M.astype(np.uint8), '16UC1', 'png'), 'broken_compressed_image'),
        (sent_compressed(WHOLE, 'rgb8', 'png'), 'unknown_encoding'),
        (
            sent_compressed(WHOLE, '32FC1', 'png', np.nan),
            'broken_compressed_image',
        ),
        (sent_compressed(None, '16UC1', 'png', data=b'no png'), 'broken_compressed_image'),
        (sent_compressed(None, '16UC1', 'rvl', data=b'\xff' * 40), 'broken_compressed_image'),
    ],
)
def test_compressed_depth_that_cannot_be_decoded_says_why(sent, expected):
    assert reason(depth_from_message, sent) == expected


@pytest.mark.parametrize('share', [0.2, 0.6, 0.9])
@pytest.mark.parametrize('codec', ['png', 'rvl'])
def test_compressed_depth_that_was_cut_is_refused(codec, share):
    whole = sent_compressed(np.rint(SCENE_M * 1000).astype(np.uint16), '16UC1', codec)
    cut = CompressedImage(format=whole.format, data=whole.data[: round(share * len(whole.data))])
    assert reason(depth_from_message, cut) == 'broken_compressed_image'
