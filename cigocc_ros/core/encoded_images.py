"""PNG and JPEG bytes: what they say of their size, and the pixels as they lie in them, or none.

What a decoder makes of damaged bytes is a matter of its release: whether they are whole is decided
here.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.jpeg import (
    BARE,
    FRAME_MARKERS,
    Jpeg,
    ends_in_grey,
    read_whole_jpeg,
    with_more_data,
)
from cigocc_ros.core.opencv import import_cv2

MAX_IMAGE_SIDE_PX = 16384
MAX_IMAGE_PIXELS = 1 << 26
"""67 megapixels: 200 MB as rgb."""
PNG_MAGIC, JPEG_MAGIC = b'\x89PNG\r\n\x1a\n', b'\xff\xd8'
_ANIMATION = (b'acTL', b'fcTL', b'fdAT')


def check_pixels(width: int, height: int, what: str) -> None:
    """Raise DataFileError for images without pixels, or with more than are decoded."""
    if min(width, height) < 1:
        raise DataFileError(f'{what}: expected an image, found {width}x{height} pixels')
    if max(width, height) > MAX_IMAGE_SIDE_PX or width * height > MAX_IMAGE_PIXELS:
        raise DataFileError(
            f'{what}: {width}x{height} pixels found, expected at most {MAX_IMAGE_SIDE_PX} a side '
            f'and {MAX_IMAGE_PIXELS} in all'
        )


def check_encoded_image(content: bytes | memoryview, what: str) -> tuple[int, int]:
    """Return (width, height) that a PNG or JPEG states; raise DataFileError for anything else.

    `what` names the image in errors. Other formats are refused: their decoders are not needed.
    """
    try:
        size = _png_size(content) if content[:8] == PNG_MAGIC else _jpeg_size(content)
    except (struct.error, IndexError) as error:
        raise DataFileError(f'{what}: {len(content)} bytes are no whole image') from error
    if size is None:
        raise DataFileError(f'{what}: {len(content)} bytes are no image: PNG or JPEG expected')
    check_pixels(*size, what)
    return size


def decode_image(content: bytes | memoryview, what: str, grey: bool = False) -> NDArray[Any]:
    """Return the pixels of a PNG or JPEG as they lie in it: (H, W, 3) uint8 in the order bgr.

    grey: leave channels and depth as they are, e.g. (H, W) uint16. An orientation in the metadata
    is not followed: calibrations speak of the pixels of the sensor. Raises DataFileError where
    bytes are missing, ImportError without OpenCV.
    """
    cv2 = import_cv2('decoding images')
    width, height = check_encoded_image(content, what)
    jpeg = None if content[:8] == PNG_MAGIC else read_whole_jpeg(content, what)
    color = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    flags = cv2.IMREAD_UNCHANGED if grey else color
    try:
        image: NDArray[Any] | None = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error as error:
        raise DataFileError(f'{what}: cannot be decoded: {error}') from error
    if image is None or image.shape[:2] != (height, width):
        raise DataFileError(f'{what}: {len(content)} bytes are no image that OpenCV reads')
    if jpeg is not None and _is_short(jpeg, content, image):
        raise DataFileError(f'{what}: no whole JPEG: its data ends before its picture does')
    return image


def _is_short(jpeg: Jpeg, content: bytes | memoryview, image: NDArray[Any]) -> bool:
    """Say whether the decoder takes what is put behind the data for part of the picture.

    Asked where the end looks as if something were missing; of pictures in several scans, which no
    camera sends, always, for each of them refines what is there.
    """
    cv2 = import_cv2('decoding images')
    flags = cv2.IMREAD_COLOR
    if len(jpeg.scans) == 1 and not jpeg.progressive:
        if not ends_in_grey(jpeg, image):
            return False
        flags = cv2.IMREAD_REDUCED_GRAYSCALE_8
    one, other = (
        cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        for data in with_more_data(jpeg, content)
    )
    return one is None or other is None or not np.array_equal(one, other)


def _png_size(content: bytes | memoryview) -> tuple[int, int] | None:
    if content[12:16] != b'IHDR':
        return None
    _check_chunks(content)
    width, height = struct.unpack_from('>II', content, 16)
    return width, height


def _check_chunks(content: bytes | memoryview) -> None:
    """Raise IndexError unless every chunk of a PNG is whole: decoders make room for each.

    Frames of an animation are chunks with sizes of their own, and no camera sends them.
    """
    at, kind = len(PNG_MAGIC), b''
    while kind != b'IEND':
        length, kind = struct.unpack_from('>I4s', content, at)
        end = at + 8 + length
        (stated,) = struct.unpack_from('>I', content, end)
        if kind in _ANIMATION or stated != zlib.crc32(content[at + 4 : end]):
            raise IndexError(f'chunk {kind!r} of {length} bytes')
        at = end + 4


def _jpeg_size(content: bytes | memoryview) -> tuple[int, int] | None:
    """Return the size in the first frame header (ITU T.81, B.2.2)."""
    if content[:2] != JPEG_MAGIC:
        return None
    at = 2
    while True:
        if content[at] != 0xFF:
            return None
        while content[at] == 0xFF:
            at += 1
        marker = content[at]
        at += 1
        if marker in BARE:
            continue
        if marker in FRAME_MARKERS:
            height, width = struct.unpack_from('>HH', content, at + 3)
            return width, height
        (length,) = struct.unpack_from('>H', content, at)
        at += max(length, 2)
