"""The cells of the model's masks and depth targets: what of their pixels counts for them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.config import FEATURE_STRIDE
from cigocc_ros.core.labels import IGNORE, NUM_CLASSES

MIN_CLASS_SHARE = 1 / 8
"""Share of a cell's pixels that a class needs to count as seen in it."""
MIN_KNOWN_SHARE = 1 / 2
"""Share of a cell's pixels whose class must be known for the cell to be supervised."""


def cell_depth(depth_m: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the lower median of the known depths of each stride-4 cell, (H/4, W/4), 0 if none.

    A median keeps to one side of a depth edge where a mean would float between.
    """
    cells = _cells(depth_m)
    ordered = np.sort(np.where(cells > 0, cells, np.inf), axis=-1)
    known = (cells > 0).sum(-1)
    middle = np.maximum(known - 1, 0) // 2
    median = np.take_along_axis(ordered, middle[..., None], axis=-1)[..., 0]
    return np.where(known > 0, median, 0).astype(np.float32)


def cell_masks(
    classes: NDArray[np.uint8], sparse: bool = False
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Turn an (H, W) image of train ids, 255 = unknown, into masks and valid, both (19, h, w).

    Of one cell all classes are valid or none is. It may show several classes: all those that fill
    at least an eighth of it, or, where the image is sparse (lidar points), all those that it has;
    one known pixel then makes it valid.
    """
    cells = _cells(classes)
    known = (cells != IGNORE).mean(-1)
    valid = known > 0 if sparse else known >= MIN_KNOWN_SHARE
    shares = [(cells == train_id).mean(-1) for train_id in range(1, NUM_CLASSES)]
    least = 0.0 if sparse else MIN_CLASS_SHARE
    masks = (np.stack(shares) >= least) & (np.stack(shares) > 0) & valid
    return masks, np.repeat(valid[None], len(masks), axis=0)


def _cells(image: NDArray[Any]) -> NDArray[Any]:
    """Cut (H, W) into cells of stride 4, (H/4, W/4, 16)."""
    height, width = image.shape
    stride = FEATURE_STRIDE
    cells = image.reshape(height // stride, stride, width // stride, stride)
    return cells.transpose(0, 2, 1, 3).reshape(height // stride, width // stride, -1)
