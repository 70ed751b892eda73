"""Decode what a numpy view cannot: Bayer, YUV and 16-bit images, JPEG and PNG.

cv_bridge is asked where it is installed, else OpenCV; both are imported on first need only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import Image

from cigocc_ros.core.encoded_images import check_encoded_image
from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.plain_files import shown
from cigocc_ros.ros.dropped import DroppedFrame, opencv
from cigocc_ros.ros.image_rows import image_rows

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
        f'image encoding {shown(encoding)} cannot be decoded; known here: {KNOWN}. Installing '
        'cv_bridge adds those that it knows',
    )


def decode_compressed(data: NDArray[np.uint8], stated_format: str) -> NDArray[np.uint8]:
    """Decode the bytes of a JPEG or PNG to (H, W, 3) uint8 rgb; raise DroppedFrame."""
    cv2 = opencv('decoding this image')
    what = f'{data.size} bytes of format {shown(stated_format)}'
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
            'unknown_encoding', f'cv_bridge cannot decode {shown(message.encoding)}: {error}'
        ) from error
    return np.ascontiguousarray(rgb, dtype=np.uint8)
