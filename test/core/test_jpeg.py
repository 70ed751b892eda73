"""JPEG and PNG are decoded whole or refused, whatever the decoder makes of the rest."""

import struct
import zlib

import cv2
import numpy as np
import pytest

from cigocc_ros.core.encoded_images import decode_image
from cigocc_ros.core.errors import DataFileError

QUALITY, OPTIMIZE = cv2.IMWRITE_JPEG_QUALITY, cv2.IMWRITE_JPEG_OPTIMIZE
RESTART, PROGRESSIVE = cv2.IMWRITE_JPEG_RST_INTERVAL, cv2.IMWRITE_JPEG_PROGRESSIVE
SAMPLING = cv2.IMWRITE_JPEG_SAMPLING_FACTOR
KINDS = {
    'usual': [],
    'fine': [QUALITY, 100],
    'restarts': [RESTART, 10],
    'every unit restarts': [RESTART, 1],
    'optimized': [QUALITY, 50, OPTIMIZE, 1],
    'progressive': [PROGRESSIVE, 1],
    '4:4:4': [SAMPLING, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444],
    '4:2:2': [SAMPLING, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422],
}
RNG = np.random.default_rng(4)
NOISE = RNG.integers(0, 256, (190, 330, 3), dtype=np.uint8)
STREET = cv2.GaussianBlur(NOISE, (0, 0), 2)
HALF_GREY = STREET.copy()
HALF_GREY[90:] = 128


def jpeg(picture, kind='usual') -> bytes:
    return cv2.imencode('.jpg', picture, KINDS[kind])[1].tobytes()


def refused(content: bytes) -> bool:
    try:
        decode_image(content, 'camera')
    except DataFileError:
        return True
    return False


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize(
    'picture',
    [STREET, NOISE, HALF_GREY, STREET[..., 0], *(np.full_like(NOISE, v) for v in (0, 128, 255))],
    ids=['street', 'noise', 'half grey', 'one channel', 'black', 'grey', 'white'],
)
def test_whole_pictures_are_decoded(picture, kind):
    content = jpeg(picture, kind)
    expected = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(decode_image(content, 'camera'), expected)
    # cameras pad their buffers
    np.testing.assert_array_equal(decode_image(content + bytes(500), 'camera'), expected)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('share', [0.1, 0.5, 0.8])
def test_pictures_that_were_cut_are_refused_with_and_without_an_end_marker(kind, share):
    content = jpeg(STREET, kind)
    cut = content[: round(share * len(content))]
    for damaged in (cut, cut + b'\xff\xd9', cut + bytes(300), cut + bytes(300) + b'\xff\xd9'):
        assert refused(damaged), len(damaged)


def test_the_last_bytes_matter():
    content = jpeg(STREET)
    assert refused(content[:-1]) and refused(content[:-2])


@pytest.mark.parametrize('kind', ['usual', 'fine', 'restarts', '4:4:4', '4:2:2'])
@pytest.mark.parametrize('size', [64, 512, 3000])
def test_holes_of_zeros_are_refused(kind, size):
    content = jpeg(STREET, kind)
    for at in (len(content) // 3, len(content) * 2 // 3):
        assert refused(content[:at] + bytes(size) + content[at + size :])


@pytest.mark.parametrize('kind', ['restarts', 'every unit restarts'])
def test_parts_lost_between_restarts_are_refused(kind):
    """A packet of a stream, as of RTP, that did not arrive."""
    content = jpeg(STREET, kind)
    at = content.index(b'\xff\xd1', len(content) // 4)
    assert refused(content[:at] + content[content.index(b'\xff\xd3', at) :])
    assert refused(content[:at] + content[content.index(b'\xff\xd1', at + 1) :])


def test_a_part_taken_out_of_the_middle_is_refused():
    content = jpeg(STREET)
    third = len(content) // 3
    assert refused(content[:third] + content[2 * third :])


def test_a_table_full_of_holes_is_refused():
    content = bytearray(jpeg(STREET))
    at = content.index(b'\xff\xdb') + 5
    content[at : at + 40] = bytes(40)
    assert refused(bytes(content))


def png(picture) -> bytes:
    return cv2.imencode('.png', picture)[1].tobytes()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))


def test_whole_png_is_decoded_and_damage_of_any_byte_refused():
    content = png(STREET)
    np.testing.assert_array_equal(decode_image(content, 'camera'), STREET)
    for at in (20, len(content) // 2, len(content) - 20):
        damaged = bytearray(content)
        damaged[at] ^= 0x10
        assert refused(bytes(damaged)), at
    assert refused(content[: len(content) // 2])
    assert refused(content[: len(content) // 2] + chunk(b'IEND', b''))
    hole = len(content) // 2
    assert refused(content[:hole] + bytes(200) + content[hole + 200 :])


def test_a_png_whose_data_ends_early_is_refused_though_each_chunk_is_whole():
    data = zlib.compress(b'\0' + STREET.tobytes())
    head = struct.pack('>IIBBBBB', 330, 190, 8, 2, 0, 0, 0)
    parts = chunk(b'IHDR', head), chunk(b'IDAT', data[: len(data) // 2]), chunk(b'IEND', b'')
    assert refused(b'\x89PNG\r\n\x1a\n' + b''.join(parts))
