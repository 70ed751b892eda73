"""The share of equal labels that every gate counts."""

import numpy as np
import pytest

from cigocc_ros.core import agreement
from cigocc_ros.core.agreement import equal_share
from cigocc_ros.core.errors import DataFileError


def test_the_share_is_of_all_voxels():
    expected = np.zeros((1, 2, 5), np.uint8)
    found = expected.copy()
    assert equal_share(found, expected) == 1.0
    found[0, 0, :3] = 7
    assert equal_share(found, expected) == 0.7 == equal_share(expected, found)


@pytest.mark.parametrize('shape', [(1, 1), (4,), (1, 4, 4), (0,)])
def test_what_numpy_would_broadcast_is_refused(shape):
    with pytest.raises(DataFileError, match=r'expected some of one shape, found \(4, 4\)|\(0,\)'):
        equal_share(np.zeros((4, 4) if shape != (0,) else (0,), np.uint8), np.zeros(shape))


def test_coarser_numbers_may_disagree_more():
    steps = [
        agreement.MIN_EXPORT_AGREEMENT,
        agreement.MIN_GOLDEN_AGREEMENT,
        agreement.MIN_MIXED_AGREEMENT,
        agreement.MIN_INT8_AGREEMENT,
    ]
    assert steps == sorted(steps, reverse=True) and steps[0] < 1 and steps[-1] > 0.5
