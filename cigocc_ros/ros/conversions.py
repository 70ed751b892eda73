"""Messages <-> numpy: images, depth images and stamps, as pure functions.

Views honour `step` and `is_bigendian`; what numpy cannot decode goes to `encodings`.
"""

from __future__ import annotations

import array
from dataclasses import dataclass
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image

from cigocc_ros.core.opencv import has_cv2
from cigocc_ros.core.plain_files import shown
from cigocc_ros.core.point_records import depth_pixels
from cigocc_ros.ros.dropped import DroppedFrame, opencv
from cigocc_ros.ros.encodings import decode_compressed, decode_other
from cigocc_ros.ros.image_rows import check_size, image_rows

NANOSECONDS = 1_000_000_000
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


def stamp_to_ns(stamp: Time) -> int:
    """Return the stamp in nanoseconds."""
    return int(stamp.sec) * NANOSECONDS + int(stamp.nanosec)


def stamp_from_ns(stamp_ns: int) -> Time:
    """Return the builtin_interfaces/Time of a stamp in nanoseconds."""
    sec, nanosec = divmod(int(stamp_ns), NANOSECONDS)
    return Time(sec=sec, nanosec=nanosec)


def byte_array(values: NDArray[Any]) -> array.array[int]:
    """Return a uint8 array.array with the bytes of `values`, the type message fields take fast.

    Assigning bytes or an ndarray makes the generated setter look at every element (Humble, or
    ROS_PYTHON_CHECK_FIELDS=1), see ros2/common_interfaces#177.
    """
    data = array.array('B')
    data.frombytes(np.ascontiguousarray(values).view(np.uint8).data)
    return data


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


def _converted(pixels: NDArray[np.uint8], conversion: str) -> NDArray[np.uint8]:
    cv2 = opencv('decoding this image')
    rgb: NDArray[np.uint8] = cv2.cvtColor(pixels, getattr(cv2, conversion))
    return rgb


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
        f'depth encoding {shown(message.encoding)}: expected 32FC1 (metres) or 16UC1 '
        '(millimetres)',
    )


def image_from_rgb(image: NDArray[np.uint8]) -> Image:
    """Return an rgb8 Image of (H, W, 3) uint8, without header."""
    height, width = image.shape[:2]
    message = Image(height=height, width=width, encoding='rgb8', step=3 * width)
    message.data = byte_array(image)
    return message


def image_from_depth(depth_m: NDArray[np.float32]) -> Image:
    """Return a 32FC1 Image of (H, W) metres, unknown (0) as NaN (REP-118), without header."""
    height, width = depth_m.shape
    message = Image(height=height, width=width, encoding='32FC1', step=4 * width)
    message.data = byte_array(depth_pixels(depth_m))
    return message


def _order(kind: str, message: Image) -> np.dtype[Any]:
    return np.dtype(('>' if message.is_bigendian else '<') + kind)
