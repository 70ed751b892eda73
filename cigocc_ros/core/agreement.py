"""How many voxels two networks label alike, and how many they must: the share, the thresholds.

The same number is demanded at every border that a network crosses: from torch to ONNX, from
float32 to float16 and to int8, and from the file to the engine of the vehicle.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.errors import DataFileError

MIN_EXPORT_AGREEMENT = 0.999
"""ONNX against torch, of labels, probabilities and logits on every input.

Not 1: where two logits, or a proposal's probability and its threshold, lie within float rounding
of each other, the two runtimes may decide differently and both be right.
"""
MIN_GOLDEN_AGREEMENT = 0.99
"""An engine at start against the stored answers; rounding moves far fewer labels."""
MIN_MIXED_AGREEMENT = 0.95
"""Mixed float16 against float32; below it the conversion is wrong. Trained networks keep 0.999 of
their labels; untrained ones, whose proposals and classes all lie near a tie, about 0.99."""
MIN_INT8_AGREEMENT = 0.8
"""Int8 against float32 on any frame; below it something is broken, not coarse."""


def equal_share(found: NDArray[np.uint8], expected: NDArray[np.uint8]) -> float:
    """Return the share (0..1) of voxels with the same label.

    Raises DataFileError where the shapes differ or there is no voxel: a share of what numpy
    broadcasts, or of nothing, would say nothing.
    """
    if found.shape != expected.shape or not found.size:
        raise DataFileError(
            f'labels to compare: expected some of one shape, found {found.shape} and '
            f'{expected.shape}'
        )
    return float(np.count_nonzero(found == expected) / found.size)
