"""Messages -> numpy: images of every encoding, and compressed ones.

Views honour `step` and `is_bigendian`. What numpy cannot decode (Bayer, YUV, 16 bit) goes to
cv_bridge where it is installed, else to OpenCV; both are imported on first need only.
"""

from __future__ import annotations

import contextlib
import functools
import io
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image

from cigocc_ros.core.encoded_images import check_pixels, decode_image
from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.opencv import has_cv2
from cigocc_ros.core.text import excerpt
from cigocc_ros.ros.dropped import DroppedFrame, opencv

AnyImage: TypeAlias = Image | CompressedImage
DEPTH_ENCODINGS = ('16uc1', '32fc1')


def check_size(message: Image) -> None:
    """Raise DroppedFrame for an image without pixels or of absurd size."""
    if message.width == 0 or message.height == 0:
        raise DroppedFrame('empty_image', f'the image is {message.width}x{message.height} pixels')
    try:
        check_pixels(message.width, message.height, 'image')
    except DataFileError as error:
        raise DroppedFrame('oversized_image', f'{error}: is the message corrupt?') from error


def image_rows(message: Image, bytes_per_pixel: int) -> NDArray[np.uint8]:
    """Return the used bytes of each row, (H, W * bytes_per_pixel) uint8, without padding.

    Raises DroppedFrame where width, step and the amount of data contradict each other.
    """
    check_size(message)
    used = message.width * bytes_per_pixel
    if message.step < used:
        raise DroppedFrame(
            'wrong_step',
            f'step is {message.step} bytes but {message.width} pixels of {message.encoding} '
            f'need {used}',
        )
    needed = message.step * message.height
    if len(message.data) < needed:
        raise DroppedFrame(
            'truncated_image',
            f'{len(message.data)} bytes of data found, step * height = {needed} expected',
        )
    rows = np.frombuffer(message.data, np.uint8, needed).reshape(message.height, message.step)
    return np.ascontiguousarray(rows[:, :used])


# ROS names a Bayer pattern by its first row, OpenCV by the second one from the second column.
BAYER = {'rggb': 'BG', 'bggr': 'RG', 'gbrg': 'GR', 'grbg': 'GB'}
YUV422 = {'uyvy': 'UYVY', 'yuv422': 'UYVY', 'yuyv': 'YUYV', 'yuv422_yuy2': 'YUYV'}
# encoding -> channels and the channels that are red, green, blue
WIDE = {
    'mono16': (1, (0, 0, 0)),
    'rgb16': (3, (0, 1, 2)),
    'bgr16': (3, (2, 1, 0)),
    'rgba16': (4, (0, 1, 2)),
    'bgra16': (4, (2, 1, 0)),
}
KNOWN = 'rgb8, bgr8, rgba8, bgra8, mono8, their 16-bit forms, bayer_*8, bayer_*16, uyvy and yuyv'


def decode_other(message: Image) -> NDArray[np.uint8]:
    """Decode an Image of an unusual encoding to (H, W, 3) uint8 rgb; raise DroppedFrame."""
    bridge = _cv_bridge()
    if bridge is not None:
        return _with_cv_bridge(bridge, message)
    encoding = message.encoding
    if encoding in WIDE:
        channels, order = WIDE[encoding]
        return np.ascontiguousarray(_high_bytes(message, channels)[..., order])
    if encoding.startswith('bayer_') and encoding[6:10] in BAYER and encoding[10:] in ('8', '16'):
        mosaic = _high_bytes(message, 1) if encoding.endswith('16') else _elements(message, 1)
        return _converted(mosaic[..., 0], f'COLOR_Bayer{BAYER[encoding[6:10]]}2RGB')
    if encoding in YUV422:
        return _converted(_elements(message, 2), f'COLOR_YUV2RGB_{YUV422[encoding]}')
    raise DroppedFrame(
        'unknown_encoding',
        f'image encoding {excerpt(encoding)} cannot be decoded; known here: {KNOWN}. Installing '
        'cv_bridge adds those that it knows',
    )


def _elements(message: Image, channels: int, item_bytes: int = 1) -> NDArray[np.uint8]:
    """Return (H, W, channels * item_bytes) uint8, checked like every other encoding."""
    rows = image_rows(message, channels * item_bytes)
    return rows.reshape(message.height, message.width, channels * item_bytes)


def _high_bytes(message: Image, channels: int) -> NDArray[np.uint8]:
    """Return the more significant byte of every 16-bit element, (H, W, channels)."""
    first = 0 if message.is_bigendian else 1
    return np.ascontiguousarray(_elements(message, channels, 2)[..., first::2])


def _converted(pixels: NDArray[np.uint8], code: str) -> NDArray[np.uint8]:
    cv2 = opencv('decoding this image')
    try:
        rgb: NDArray[np.uint8] = cv2.cvtColor(np.ascontiguousarray(pixels), getattr(cv2, code))
    except cv2.error as error:  # e.g. an odd number of columns where colours come in pairs
        raise DroppedFrame('undecodable_image', f'OpenCV cannot decode it: {error}') from error
    return rgb


@functools.cache
def _cv_bridge() -> Any:
    """Return a CvBridge, or None where it is absent or built for another numpy; asked once."""
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # numpy's forty lines
            from cv_bridge import CvBridge

            return CvBridge()
    except Exception:  # the apt build raises AttributeError, ImportError or worse with numpy 2
        return None


def _with_cv_bridge(bridge: Any, message: Image) -> NDArray[np.uint8]:
    try:
        rgb = bridge.imgmsg_to_cv2(message, desired_encoding='rgb8')
    except Exception as error:  # CvBridgeError, cv2.error, TypeError: all mean the same here
        raise DroppedFrame(
            'unknown_encoding', f'cv_bridge cannot decode {excerpt(message.encoding)}: {error}'
        ) from error
    return np.ascontiguousarray(rgb, dtype=np.uint8)


# encoding -> number of channels, the channels that are red, green, blue, OpenCV's conversion
RGB_CHANNELS = {
    'rgb8': (3, (0, 1, 2), ''),
    'bgr8': (3, (2, 1, 0), 'COLOR_BGR2RGB'),
    'rgba8': (4, (0, 1, 2), 'COLOR_RGBA2RGB'),
    'bgra8': (4, (2, 1, 0), 'COLOR_BGRA2RGB'),
    'mono8': (1, (0, 0, 0), 'COLOR_GRAY2RGB'),
}


def rgb_from_image(message: Image) -> NDArray[np.uint8]:
    """Decode an Image to (H, W, 3) uint8 rgb, contiguous; raise DroppedFrame where impossible.

    rgb8 without padding is a read-only view of the bytes of the message, which must not change.
    """
    if message.encoding not in RGB_CHANNELS:
        check_size(message)
        return decode_other(message)
    channels, order, conversion = RGB_CHANNELS[message.encoding]
    rows = image_rows(message, channels)
    pixels = rows.reshape(message.height, message.width, channels)
    if not conversion:
        pixels.flags.writeable = False
        return pixels
    return _converted(pixels, conversion) if has_cv2() else _reordered(pixels, order)


def _reordered(pixels: NDArray[np.uint8], order: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return the red, green and blue channels as (H, W, 3), without OpenCV, ten times slower."""
    rgb = np.empty((*pixels.shape[:2], 3), np.uint8)
    for channel, source in enumerate(order):
        rgb[..., channel] = pixels[..., source]
    return rgb


def rgb_from_compressed(message: CompressedImage) -> NDArray[np.uint8]:
    """Decode a JPEG or PNG CompressedImage to (H, W, 3) uint8 rgb; raise DroppedFrame.

    Bytes that are not whole are refused. A Bayer mosaic that was compressed as it came from the
    sensor is interpolated. See `stated_format` for what the format says.
    """
    content = message.data.tobytes() if hasattr(message.data, 'tobytes') else bytes(message.data)
    if not content:
        raise DroppedFrame('empty_image', 'the compressed image has no bytes')
    encoding, stored = stated_format(message.format)
    what = f'{len(content)} bytes of format {excerpt(message.format)}'
    if encoding in DEPTH_ENCODINGS or 'compresseddepth' in message.format.lower():
        raise DroppedFrame('unknown_encoding', f'{what}: a depth image on the topic of the camera')
    mosaic = encoding.startswith('bayer_') and not stored
    pixels = _decoded(content, what, as_stored=mosaic)
    if mosaic:
        return _from_mosaic(pixels, encoding)
    return np.ascontiguousarray(pixels[..., ::-1])


def stated_format(text: str) -> tuple[str, str]:
    """Return the encoding of the camera and that of the compressed pixels; '' where not stated.

    `ORIGINAL; CODEC compressed STORED`, as compressed_image_transport writes it and
    sensor_msgs/CompressedImage documents it; a lone codec says neither. STORED is left out for
    grey images and for Bayer mosaics, which are compressed as they are.
    """
    original, separator, rest = text.lower().partition(';')
    if not separator:
        return '', ''
    _, _, stored = rest.partition('compressed')
    return original.strip(), stored.strip()


def format_doubt(message: AnyImage) -> str:
    """Say where the stated format contradicts what a JPEG or PNG says of its own colours."""
    if not isinstance(message, CompressedImage):
        return ''
    _, stored = stated_format(message.format)
    if not stored.startswith('rgb'):
        return ''
    return (
        f'format {excerpt(message.format)} says that red and blue were exchanged before they were '
        'compressed: taken as the file says, which most senders mean'
    )


def _decoded(content: bytes, what: str, as_stored: bool) -> NDArray[Any]:
    opencv('decoding this image')
    try:
        return decode_image(content, what, as_stored)
    except DataFileError as error:
        raise DroppedFrame('broken_compressed_image', str(error)) from error


def _from_mosaic(pixels: NDArray[Any], encoding: str) -> NDArray[np.uint8]:
    """Interpolate a Bayer mosaic; a picture whose channels differ was interpolated before."""
    if pixels.ndim == 3 and not (pixels == pixels[..., :1]).all():
        return np.ascontiguousarray(_high_byte(pixels)[..., 2::-1])
    grey = _high_byte(pixels if pixels.ndim == 2 else pixels[..., 0])
    if encoding[6:10] not in BAYER:
        raise DroppedFrame('unknown_encoding', f'Bayer pattern {excerpt(encoding)} is not known')
    return _converted(grey, f'COLOR_Bayer{BAYER[encoding[6:10]]}2RGB')


def _high_byte(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    wide = pixels.dtype == np.uint16
    return (pixels >> 8).astype(np.uint8) if wide else pixels.astype(np.uint8, copy=False)


def decode_rgb(message: AnyImage) -> NDArray[np.uint8]:
    """Decode an Image or CompressedImage to (H, W, 3) uint8 rgb; raise DroppedFrame."""
    if isinstance(message, CompressedImage):
        return rgb_from_compressed(message)
    return rgb_from_image(message)
