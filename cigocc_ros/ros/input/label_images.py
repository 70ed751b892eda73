"""Label messages -> the classes of a frame: class ids per pixel of any segmentation network.

What publishes them, by its source: semantic_inference (output_publisher.cpp) 16SC1 of the size and
header of its image; Isaac ROS (unet_decoder_node.cpp) mono8 of the size of its network. By
vision_msgs/LabelInfo the largest number of an unsigned type says "unlabelled".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import Image

from cigocc_ros.core.class_presets import TABLE_SIZE, ClassSet
from cigocc_ros.core.text import excerpt
from cigocc_ros.ros.dropped import DroppedFrame
from cigocc_ros.ros.input.camera_info import ImageGeometry
from cigocc_ros.ros.input.depth_prior import check_shape, nearest_pixels
from cigocc_ros.ros.input.images import image_rows

Classes = NDArray[np.uint8]
TYPES = {
    'mono8': 'u1',
    '8UC1': 'u1',
    '8SC1': 'i1',
    'mono16': 'u2',
    '16UC1': 'u2',
    '16SC1': 'i2',
    '32SC1': 'i4',
}
"""Encoding -> numpy's type of an id."""
UNLABELLED = (255, 65535)
"""Ids that no set needs to list; so are negative ones."""
DOUBTED_SHARE, REFUSED_SHARE = 0.01, 0.5
"""Of the pixels: ids that are none of the set are doubtful, or the whole image is of another."""
SHOWN_IDS = 5


@dataclass(frozen=True)
class Labels:
    """A label image in train ids 1..19, 0 = unknown, (h, w) uint8.

    known_share: pixels with a class. foreign_share: pixels whose id the set does not have.
    foreign_ids: some of these ids, the commonest first.
    """

    classes: Classes
    known_share: float
    foreign_share: float
    foreign_ids: tuple[int, ...] = ()

    def doubt(self, name: str) -> str:
        """Say what is doubtful where the set `name` explains too few ids; '' for nothing."""
        if self.foreign_share <= DOUBTED_SHARE:
            return ''
        return (
            f'{100 * self.foreign_share:.0f} % of the label pixels have ids that {name} does not '
            f'have, such as {list(self.foreign_ids)}: taken as unknown; is semantic_classes right?'
        )


def check_label_frame(image_frame: str, label_frame: str) -> str:
    """Return what is doubtful about the frame of a label image; DroppedFrame for another one."""
    if not label_frame:
        return 'the label images carry no frame_id: nothing says that they are of this camera'
    if label_frame != image_frame:
        raise DroppedFrame(
            'semantic_frame',
            f'the label image is of frame {excerpt(label_frame)}, the image of '
            f'{excerpt(image_frame)}: labels must be made of the images of this camera',
        )
    return ''


def ids_from_message(message: Image) -> NDArray[Any]:
    """Return the ids of a label Image, (H, W) of its integer type; raise DroppedFrame.

    A picture in colours is refused with what to subscribe to instead.
    """
    encoding = message.encoding
    if encoding not in TYPES:
        raise _no_ids(encoding)
    order = '>' if message.is_bigendian else '<'
    dtype = np.dtype(order + TYPES[encoding])
    return image_rows(message, dtype.itemsize).view(dtype)


def _no_ids(encoding: str) -> DroppedFrame:
    found = f'label images of encoding {excerpt(encoding)}'
    if encoding.lower().startswith(('32fc1', '64fc1')):
        return DroppedFrame('unknown_encoding', f'{found}: numbers with fractions are no ids')
    if encoding.lower().startswith(('rgb', 'bgr', 'bayer', 'yuv', 'uyvy', 'nv', '8uc3', '8uc4')):
        return DroppedFrame(
            'semantic_colour',
            f'{found} are a picture for people: subscribe to the image of class ids that the '
            'node publishes beside it, e.g. semantic/image_raw, not semantic_color/image_raw '
            '(semantic_inference), raw_segmentation_mask, not colored_segmentation_mask (Isaac)',
        )
    return DroppedFrame(
        'unknown_encoding', f'{found}: expected one channel of ids, {", ".join(TYPES)}'
    )


def translated(ids: NDArray[Any], classes: ClassSet) -> Labels:
    """Return the train ids of an image of foreign ids; raise DroppedFrame.

    semantic_ids: most pixels are of no id of the set. semantic_empty: no pixel has a class.
    """
    index = _table_index(ids)
    labels = np.concatenate([[0], classes.table, [0, 0]]).astype(np.uint8)[index]
    counts = np.bincount(index.ravel(), minlength=TABLE_SIZE + 3)
    foreign = np.concatenate([[False], ~classes.known, [True, False]])
    foreign[1 + UNLABELLED[0]] = False
    share = float(counts[foreign].sum() / index.size)
    some = _commonest(ids[foreign[index]]) if share else ()
    if share > REFUSED_SHARE:
        raise DroppedFrame(
            'semantic_ids',
            f'{100 * share:.0f} % of the label pixels have ids that {classes.name} does not have, '
            f'such as {list(some)}: set semantic_classes to what this network was trained on',
        )
    if not labels.any():
        raise DroppedFrame(
            'semantic_empty',
            f'no id of the label image is a class by {classes.name}; it has '
            f'{list(_commonest(ids.ravel()))}: is semantic_classes right?',
        )
    return Labels(labels, float((labels > 0).mean()), share, some)


def _table_index(ids: NDArray[Any]) -> NDArray[np.int64]:
    """Return where each id stands in a table of: negative, 0 to 255, larger, unlabelled."""
    index = np.clip(ids.astype(np.int64), -1, TABLE_SIZE) + 1
    if ids.dtype.itemsize > 1:
        index[ids == UNLABELLED[1]] = TABLE_SIZE + 2
    return index


def _commonest(ids: NDArray[Any]) -> tuple[int, ...]:
    found, counts = np.unique(ids, return_counts=True)
    return tuple(int(one) for one in found[np.argsort(-counts, kind='stable')][:SHOWN_IDS])


def fitted_classes(classes: Classes, image: ImageGeometry) -> Classes:
    """Return the classes of the rectified image; raise DroppedFrame for another shape.

    Classes of a rectified image keep their size: preprocessing samples them to the nearest pixel.
    Those of a raw one are brought to its size and rectified, both to the nearest pixel.
    """
    check_shape(classes.shape, image.camera, 'semantic_size', 'label image')
    if image.maps is None:
        return classes
    return image.rectify_nearest(nearest_pixels(classes, image.camera))
