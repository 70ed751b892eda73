"""A checked view of the bytes of an Image message."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import Image

from cigocc_ros.core.encoded_images import check_pixels
from cigocc_ros.core.errors import DataFileError
from cigocc_ros.ros.dropped import DroppedFrame


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
