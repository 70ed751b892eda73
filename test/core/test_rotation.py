"""Quaternions against matrices, both ways."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cigocc_ros.core.errors import CalibrationError
from cigocc_ros.core.rotation import quaternion_xyzw, rigid_transform

part = st.floats(-1, 1)


@pytest.mark.parametrize(
    ('axis', 'expected'),
    [
        ([[1, 0, 0], [0, -1, 0], [0, 0, -1]], [1, 0, 0, 0]),
        ([[0, -1, 0], [1, 0, 0], [0, 0, 1]], [0, 0, np.sqrt(0.5), np.sqrt(0.5)]),
        ([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], [-0.5, 0.5, -0.5, 0.5]),
    ],
)
def test_known_rotations(axis, expected):
    """A half turn about x, a quarter turn about z, and lidar axes to optical axes."""
    np.testing.assert_allclose(quaternion_xyzw(np.array(axis, float)), expected, atol=1e-12)


@given(st.tuples(part, part, part, part).filter(lambda q: np.linalg.norm(q) > 0.1))
def test_quaternion_to_matrix_and_back(values):
    quaternion = np.array(values) / np.linalg.norm(values)
    matrix = rigid_transform([1, 2, 3], quaternion)
    np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-12)
    np.testing.assert_array_equal(matrix[:3, 3], [1, 2, 3])
    again = rigid_transform([1, 2, 3], quaternion_xyzw(matrix[:3, :3]))
    np.testing.assert_allclose(again, matrix, atol=1e-10)


@pytest.mark.parametrize('bad', [[0, 0, 0, 0], [0, 0, 0, 2], [0, 0, 1]])
def test_what_is_no_unit_quaternion_is_refused(bad):
    with pytest.raises(CalibrationError, match='unit quaternion'):
        rigid_transform([0, 0, 0], bad)
