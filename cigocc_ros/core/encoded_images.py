"""What PNG and JPEG bytes say of their size, read before a decoder allocates for it."""

from __future__ import annotations

import struct

from cigocc_ros.core.errors import DataFileError

MAX_IMAGE_SIDE_PX = 16384
MAX_IMAGE_PIXELS = 1 << 26
"""67 megapixels: 200 MB as rgb."""
PNG_MAGIC, JPEG_MAGIC = b'\x89PNG\r\n\x1a\n', b'\xff\xd8'
# SOF0..SOF15 without DHT, JPG and DAC, which lie between them
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ANIMATION = (b'acTL', b'fcTL', b'fdAT')
_BARE_MARKERS = frozenset({0x01, *range(0xD0, 0xD9)})


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


def _png_size(content: bytes | memoryview) -> tuple[int, int] | None:
    if content[12:16] != b'IHDR':
        return None
    _check_chunks(content)
    width, height = struct.unpack_from('>II', content, 16)
    return width, height


def _check_chunks(content: bytes | memoryview) -> None:
    """Raise IndexError unless every chunk of a PNG lies within it: decoders make room for each.

    Frames of an animation are chunks with sizes of their own, and no camera sends them.
    """
    at, kind = len(PNG_MAGIC), b''
    while kind != b'IEND':
        length, kind = struct.unpack_from('>I4s', content, at)
        at += 12 + length
        if at > len(content) or kind in _ANIMATION:
            raise IndexError(f'chunk {kind!r} of {length} bytes')


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
        if marker in _BARE_MARKERS:
            continue
        if marker in _FRAME_MARKERS:
            height, width = struct.unpack_from('>HH', content, at + 3)
            return width, height
        (length,) = struct.unpack_from('>H', content, at)
        at += max(length, 2)
