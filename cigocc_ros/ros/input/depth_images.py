"""Depth messages -> metres: raw ones, those of compressed_depth_image_transport, and their units.

32FC1 are metres, 16UC1 millimetres (REP 118). What cannot be that is refused, for a scene a
thousand times too far looks like any other to the network.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image

from cigocc_ros.core.encoded_images import check_pixels, decode_image
from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.text import excerpt
from cigocc_ros.ros.dropped import DroppedFrame, opencv
from cigocc_ros.ros.input.images import AnyImage, image_rows

Depth = NDArray[np.float32]
MILLIMETRE_M = np.float32(0.001)
SATURATED = 65535
"""The largest number of 16UC1 says "or more"."""
HEADER = struct.Struct('<iff')
"""ConfigHeader of compressed_depth_image_transport/compression_common.hpp: format, a, b."""
RVL_SIZE = struct.Struct('<II')
NEAREST_SHARE, FARTHEST_SHARE = 5, 95
NEAREST_M, FARTHEST_M = 150.0, 0.2
"""Nothing of a scene is farther than the first only, or all of it nearer than the second."""
SAMPLED_EVERY = 4
FAR_PLANE_SHARE = 0.05
"""A largest depth that so many pixels share exactly is "nothing there", not a wall."""


def depth_from_message(message: AnyImage) -> tuple[Depth, str]:
    """Return (H, W) metres, 0 where unknown, and what is doubtful about them; '' for nothing.

    Raises DroppedFrame: unknown_encoding, prior_units, broken_compressed_image, and what images
    are dropped for.
    """
    compressed = isinstance(message, CompressedImage)
    depth = _from_compressed(message) if compressed else depth_from_image(message)
    _check_units(depth)
    return _without_far_plane(depth)


def depth_from_image(message: Image) -> Depth:
    """Decode a depth Image, 32FC1 metres or 16UC1 millimetres, to metres; raise DroppedFrame.

    NaN, infinity, negative and saturated numbers become 0, unknown.
    """
    if message.encoding == '32FC1':
        return _metres(image_rows(message, 4).view(_order('f4', message)))
    if message.encoding == '16UC1':
        return _metres(image_rows(message, 2).view(_order('u2', message)))
    raise DroppedFrame(
        'unknown_encoding',
        f'depth encoding {excerpt(message.encoding)}: expected 32FC1 (metres) or 16UC1 '
        '(millimetres)',
    )


def _metres(raw: NDArray[Any]) -> Depth:
    if raw.dtype.kind == 'u':
        kept = np.where(raw == SATURATED, 0, raw)
        return kept.astype(np.float32) * MILLIMETRE_M
    depth: Depth = raw.astype(np.float32)
    with np.errstate(invalid='ignore'):
        depth[~np.isfinite(depth) | (depth < 0)] = 0
    return depth


def _order(kind: str, message: Image) -> np.dtype[Any]:
    return np.dtype(('>' if message.is_bigendian else '<') + kind)


def _check_units(depth: Depth) -> None:
    some = depth[::SAMPLED_EVERY, ::SAMPLED_EVERY]
    known = some[some > 0]
    if not known.size:
        return
    near, far = np.percentile(known, [NEAREST_SHARE, FARTHEST_SHARE])
    if near > NEAREST_M or far < FARTHEST_M:
        raise DroppedFrame(
            'prior_units',
            f'nine of ten depths lie between {near:g} and {far:g} m: expected 32FC1 in metres or '
            '16UC1 in millimetres (REP 118); are the units exchanged?',
        )


def _without_far_plane(depth: Depth) -> tuple[Depth, str]:
    """Make the far plane of a simulator or of a sensor's range unknown, and say so."""
    farthest = depth.max(initial=0)
    at_end = depth == farthest
    share = int(np.count_nonzero(at_end)) / (int(np.count_nonzero(depth)) or 1)
    if farthest == 0 or not FAR_PLANE_SHARE <= share < 1 - FAR_PLANE_SHARE:
        return depth, ''
    doubt = (
        f'{100 * share:.0f} % of the depth pixels carry exactly {farthest:g} m, the largest '
        'depth: taken as the end of the range, unknown'
    )
    return np.where(at_end, np.float32(0), depth), doubt


def _from_compressed(message: CompressedImage) -> Depth:
    """Decode what compressed_depth_image_transport sends; raise DroppedFrame.

    `32FC1; compressedDepth png`: a header, then a PNG of inverse depths, or RVL data (codec.cpp).
    Older senders leave the codec out, which means PNG.
    """
    what = f'depth of format {excerpt(message.format)}'
    encoding, _, rest = message.format.partition(';')
    encoding = encoding.strip().upper()
    codec = rest.strip().lower().removeprefix('compresseddepth').strip()
    if encoding not in ('16UC1', '32FC1') or (rest and 'compressedDepth' not in rest):
        raise DroppedFrame(
            'unknown_encoding', f'{what}: expected 16UC1 or 32FC1; compressedDepth png or rvl'
        )
    content = bytes(message.data)
    if len(content) <= HEADER.size:
        raise DroppedFrame('empty_image', f'{what}: {len(content)} bytes')
    _, a, b = HEADER.unpack_from(content)
    readers = {'': _from_png, 'png': _from_png, 'rvl': _from_rvl}
    if codec not in readers:
        raise DroppedFrame('unknown_encoding', f'{what}: codec {excerpt(codec)}')
    stored = readers[codec](content[HEADER.size :], what)
    return _metres(stored) if encoding == '16UC1' else _from_inverse(stored, a, b, what)


def _from_inverse(stored: NDArray[np.uint16], a: float, b: float, what: str) -> Depth:
    """Return a / (stored - b), the quantised inverse depth; 0 stays unknown."""
    if not (np.isfinite([a, b]).all() and a > 0):
        raise DroppedFrame('broken_compressed_image', f'{what}: quantisation {a:g}, {b:g}')
    with np.errstate(divide='ignore'):
        depth = np.float32(a) / (stored.astype(np.float32) - np.float32(b))
    return _metres(np.where(stored > 0, depth, 0))


def _from_png(content: bytes, what: str) -> NDArray[np.uint16]:
    opencv('decoding compressed depth')
    try:
        stored = decode_image(content, what, grey=True)
    except DataFileError as error:
        raise DroppedFrame('broken_compressed_image', str(error)) from error
    if stored.dtype != np.uint16 or stored.ndim != 2:
        found = f'{stored.dtype} {stored.shape}'
        raise DroppedFrame('broken_compressed_image', f'{what}: expected 16 bits, found {found}')
    return stored.astype(np.uint16, copy=False)


def _from_rvl(content: bytes, what: str) -> NDArray[np.uint16]:
    """Decode run length and variable length coded differences (Wilson, ISS 2017; rvl_codec.cpp).

    After the size: words of 32 bits, their nibbles from the top; a nibble carries three bits of a
    number, the lowest first, and whether more follow. The numbers are: how many pixels are zero,
    how many are not, and the differences of those to the pixel before, alternating in sign.
    """
    try:
        width, height = RVL_SIZE.unpack_from(content)
        check_pixels(width, height, what)
        return _rvl_pixels(content[RVL_SIZE.size :], width * height).reshape(height, width)
    except (struct.error, DataFileError, ValueError, IndexError) as error:
        raise DroppedFrame('broken_compressed_image', f'{what}: {error}') from error


def _rvl_pixels(content: bytes, count: int) -> NDArray[np.uint16]:
    numbers = _rvl_numbers(content)
    deltas = np.where(numbers & 1, -((numbers + 1) >> 1), numbers >> 1)
    changes, at, pixel = np.zeros(count, np.int64), 0, 0
    measured = np.zeros(count, bool)
    while pixel < count:
        pixel += int(numbers[at])
        known = int(numbers[at + 1])
        at += 2
        if pixel + known > count or at + known > numbers.size:
            raise ValueError('its runs do not fill the image: bytes were lost')
        changes[pixel : pixel + known] = deltas[at : at + known]
        measured[pixel : pixel + known] = True
        pixel, at = pixel + known, at + known
    values = np.where(measured, np.cumsum(changes), 0)
    if values.min(initial=0) < 0 or values.max(initial=0) > SATURATED:
        raise ValueError('its differences leave 16 bits: bytes were changed')
    return values.astype(np.uint16)


def _rvl_numbers(content: bytes) -> NDArray[np.int64]:
    """Return the numbers of all complete groups of nibbles."""
    words = np.frombuffer(content[: len(content) // 4 * 4], '<u4').astype('>u4')
    packed = words.view(np.uint8)
    nibbles = np.stack([packed >> 4, packed & 15], axis=-1).ravel().astype(np.int64)
    last = np.flatnonzero((nibbles & 8) == 0)
    if not last.size:
        raise ValueError('no number in its data')
    starts = np.concatenate([[0], last[:-1] + 1])
    used = nibbles[: last[-1] + 1]
    place = np.arange(used.size) - np.repeat(starts, np.diff([*starts, used.size]))
    if place.max() > 9:
        raise ValueError('a number of more than 29 bits')
    return np.add.reduceat((used & 7) << (3 * place), starts)
