"""The ray caster against hand-computed hits."""

import numpy as np
import pytest

from cigocc_ros.core.errors import EngineError
from cigocc_ros.data.raycast import RayCaster

# in the plane x = 2 and, behind it, x = 5
TRIANGLES = np.array(
    [[[2, 0, 0], [2, 4, 0], [2, 0, 4]], [[5, -9, -9], [5, 9, -9], [5, 0, 9]]], float
)


def test_the_first_triangle_is_hit_at_the_computed_place():
    origins = np.zeros((3, 3))
    directions = np.array([[1, 0.5, 0.5], [1, -0.1, -0.1], [-1, 0, 0.0]])
    hits = RayCaster(TRIANGLES).cast(origins, directions)
    np.testing.assert_array_equal(hits.triangle, [0, 1, -1])
    np.testing.assert_allclose(hits.distance, [2, 5, np.inf], rtol=1e-6)
    np.testing.assert_allclose((hits.u[0], hits.v[0]), (0.25, 0.25), rtol=1e-6)
    np.testing.assert_array_equal(hits.hit, [True, True, False])


def test_occlusion_is_any_hit():
    blocked = RayCaster(TRIANGLES).occluded(np.zeros((2, 3)), np.array([[1.0, 0, 0], [0, 0, 1]]))
    np.testing.assert_array_equal(blocked, [True, False])


def test_a_line_is_blocked_only_between_its_ends():
    origins = np.array([[0.0, 0, 0], [0, 0, 0], [3, 0, 0], [3, 0, 0]])
    spans = np.array([[2.1, 1, 1], [1.9, 1, 1], [-4, 1, 1], [1, 0, 0]])
    blocked = RayCaster(TRIANGLES).blocked(origins, spans)
    np.testing.assert_array_equal(blocked, [True, False, True, False])


def test_nothing_to_hit():
    caster = RayCaster(np.zeros((0, 3, 3)))
    assert not caster.cast(np.zeros((4, 3)), np.ones((4, 3))).hit.any()
    assert not caster.occluded(np.zeros((4, 3)), np.ones((4, 3))).any()
    assert not caster.blocked(np.zeros((4, 3)), np.ones((4, 3))).any()


def test_other_shapes_are_refused():
    with pytest.raises(EngineError, match=r'\(T, 3, 3\)'):
        RayCaster(np.zeros((3, 3)))
