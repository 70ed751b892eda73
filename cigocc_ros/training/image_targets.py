"""What images alone teach a network: exact where the data knows, weaker where a network says.

The stage `eyes` learns from these. The data's own depth and classes stay the main targets; where
it knows none, a segmentation network and a stereo network may say something, with weights of their
own.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.arrays import Arrays
from cigocc_ros.core.class_presets import train_id_table
from cigocc_ros.core.config import FEATURE_STRIDE, ModelConfig
from cigocc_ros.core.labels import EMPTY, IGNORE, NUM_CLASSES
from cigocc_ros.data.kitti_layout import FrameKey
from cigocc_ros.data.label_images import LabelImages
from cigocc_ros.training.cells import cell_depth, cell_masks
from cigocc_ros.training.teacher.folder import TeacherTargets
from cigocc_ros.training.views import FrameView

DENSE_RANGE_M = 60.0
"""Beyond it the depth of a stereo network is no target: a pixel of disparity is 10 m there."""


class ImageTargets(NamedTuple):
    """Targets of one image besides its own depth and classes, at the sizes of the model."""

    masks: NDArray[np.uint8]
    """(19, H/4, W/4) 0 or 1: a segmentation network saw class 1..19 in the cell."""
    valid: NDArray[np.bool_]
    """(19, H/4, W/4) it can tell that class, and the data itself knows nothing of the cell."""
    depth: NDArray[np.float32]
    """(H/4, W/4) metres that a stereo network says, 0 = unknown."""
    classes: NDArray[np.uint8]
    """(H, W) train ids that the data knows, 255 = unknown: to score with."""


def image_arrays(
    view: FrameView, labels: LabelImages | None, teacher: TeacherTargets | None
) -> Arrays:
    """Return the prepared arrays of an image's targets.

    masks and mask_valid (19, h, w) bool packed to bits, of the data alone; weak_masks and
    weak_valid likewise, of the teacher, or else of the label image; classes (H, W) uint8 train
    ids, 255 = unknown, and classes_are_sparse () bool; of a right image dense (H, W) float16
    metres, 0 = unknown, where the left one has depth_stereo.
    """
    masks, valid = cell_masks(view.classes, view.classes_are_sparse)
    weak, weak_valid = np.zeros_like(masks), np.zeros_like(valid)
    if labels is not None:
        weak, weak_valid = label_masks(view, labels)
    if teacher is not None:
        weak = np.where(teacher.masks_valid, teacher.masks, weak)
        weak_valid = teacher.masks_valid | weak_valid
    arrays: Arrays = {
        'masks': np.packbits(masks),
        'mask_valid': np.packbits(valid),
        'weak_masks': np.packbits(weak),
        'weak_valid': np.packbits(weak_valid & ~valid),
        'classes': view.classes,
        'classes_are_sparse': np.array(view.classes_are_sparse),
    }
    if view.side == 'right' and view.sequence.has_stereo_depth(view.frame_id):
        arrays['dense'] = view.dense_depth.astype(np.float16)
    return arrays


def label_masks(
    view: FrameView, labels: LabelImages
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return masks and valid, (19, h, w) each, of a view's label image.

    A class that its network has no name for is never valid: what it calls vegetation may be a
    trunk.
    """
    found = labels.train_ids(FrameKey(view.sequence.name, view.frame_id))
    known = np.where(found == EMPTY, IGNORE, found).astype(np.uint8)
    masks, valid = cell_masks(view.fit.apply_any_size(known, IGNORE))
    tells = np.isin(np.arange(1, NUM_CLASSES), train_id_table(labels.preset))
    return masks, valid & tells[:, None, None]


def image_targets(arrays: Arrays, config: ModelConfig) -> ImageTargets:
    """Unpack the targets of a prepared frame; what it was not prepared with is unknown."""
    height, width = (size // FEATURE_STRIDE for size in config.image_size)
    shape = (NUM_CLASSES - 1, height, width)
    nothing = np.packbits(np.zeros(shape, dtype=bool))
    masks, valid = (
        unpacked(arrays.get(name, nothing), shape) for name in ('weak_masks', 'weak_valid')
    )
    dense = arrays.get('depth_stereo', arrays.get('dense'))
    depth = np.zeros((height, width), dtype=np.float32)
    if dense is not None:
        depth = cell_depth(dense.astype(np.float32))
        depth[depth > DENSE_RANGE_M] = 0
    classes = arrays.get('classes', np.full(config.image_size, IGNORE, dtype=np.uint8))
    return ImageTargets(masks, valid.astype(bool), depth, classes)


def unpacked(bits: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return what was packed to bits, 0 or 1, in its shape."""
    found: NDArray[np.uint8] = np.unpackbits(bits, count=math.prod(shape)).reshape(shape)
    return found
