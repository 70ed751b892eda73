"""Messages -> numpy: images of every encoding, compressed images and depth images.

Views honour `step` and `is_bigendian`. What numpy cannot decode (Bayer, YUV, 16 bit) goes to
cv_bridge where it is installed, else to OpenCV; both are imported on first need only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image

from cigocc_ros.core.encoded_images import check_encoded_image, check_pixels
from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.opencv import has_cv2
from cigocc_ros.core.text import excerpt
from cigocc_ros.ros.dropped import DroppedFrame, opencv

AnyImage: TypeAlias = Image | CompressedImage


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


def decode_compressed(data: NDArray[np.uint8], stated_format: str) -> NDArray[np.uint8]:
    """Decode the bytes of a JPEG or PNG to (H, W, 3) uint8 rgb; raise DroppedFrame."""
    cv2 = opencv('decoding this image')
    what = f'{data.size} bytes of format {excerpt(stated_format)}'
    decoded: NDArray[np.uint8] | None
    try:
        check_encoded_image(data.data, what)
        decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    except (DataFileError, cv2.error) as error:
        raise DroppedFrame('broken_compressed_image', str(error)) from error
    if decoded is None:
        raise DroppedFrame(
            'broken_compressed_image', f'{what} are no JPEG or PNG that OpenCV reads'
        )
    return np.ascontiguousarray(decoded[..., ::-1])


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


def _cv_bridge() -> Any:
    """Return a CvBridge, or None where it is absent or built for another numpy."""
    try:
        from cv_bridge import CvBridge
    except Exception:  # the apt build raises AttributeError, ImportError or worse with numpy 2
        return None
    return CvBridge()


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
MILLIMETRE_M = 0.001


@dataclass(frozen=True)
class DepthImage:
    """Depth of an Image message.

    depth_m: (H, W) float32 metres along the optical axis, 0 where unknown (REP-118).
    rejected_px: pixels that carried NaN, infinity or a negative number.
    """

    depth_m: NDArray[np.float32]
    rejected_px: int


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
    """Decode a JPEG or PNG CompressedImage to (H, W, 3) uint8 rgb; raise DroppedFrame."""
    if not len(message.data):
        raise DroppedFrame('empty_image', 'the compressed image has no bytes')
    return decode_compressed(np.frombuffer(message.data, np.uint8), message.format)


def depth_from_image(message: Image) -> DepthImage:
    """Decode a depth Image, 32FC1 metres or 16UC1 millimetres (REP-118); raise DroppedFrame."""
    if message.encoding == '32FC1':
        depth = image_rows(message, 4).view(_order('f4', message)).astype(np.float32)
        with np.errstate(invalid='ignore'):
            bad = ~np.isfinite(depth) | (depth < 0)
        depth[bad] = 0
        return DepthImage(depth, int(bad.sum()))
    if message.encoding == '16UC1':
        raw = image_rows(message, 2).view(_order('u2', message))
        return DepthImage(raw.astype(np.float32) * np.float32(MILLIMETRE_M), 0)
    raise DroppedFrame(
        'unknown_encoding',
        f'depth encoding {excerpt(message.encoding)}: expected 32FC1 (metres) or 16UC1 '
        '(millimetres)',
    )


def _order(kind: str, message: Image) -> np.dtype[Any]:
    return np.dtype(('>' if message.is_bigendian else '<') + kind)


def decode_rgb(message: AnyImage) -> NDArray[np.uint8]:
    """Decode an Image or CompressedImage to (H, W, 3) uint8 rgb; raise DroppedFrame."""
    if isinstance(message, CompressedImage):
        return rgb_from_compressed(message)
    return rgb_from_image(message)
