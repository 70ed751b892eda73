"""Occupancy -> MarkerArray: what is shown, and the bytes of the fast writer."""

import numpy as np
import pytest

pytest.importorskip('rclpy')

from rclpy.serialization import deserialize_message, serialize_message
from visualization_msgs.msg import Marker, MarkerArray

from cigocc_ros.core.frames import Occupancy
from cigocc_ros.core.grid import VoxelGrid
from cigocc_ros.core.labels import CLASS_NAMES
from cigocc_ros.core.voxel_filter import surface_voxels
from cigocc_ros.ros.output import markers
from cigocc_ros.ros.output.cdr import marker_array_bytes
from cigocc_ros.ros.output.markers import MarkerWriter, cube_lists, marker_array

GRID = VoxelGrid((0.0, -2.0, -1.0), (0.5, 0.5, 0.5), (8, 8, 4))


def random_occupancy(seed: int, share: float = 0.3) -> Occupancy:
    random = np.random.default_rng(seed)
    labels = random.integers(1, 20, GRID.shape).astype(np.uint8)
    labels[random.random(GRID.shape) > share] = 0
    return Occupancy(labels, labels, GRID, 12_345_678_901, 'velo_link')


def test_only_voxels_with_a_free_neighbour_are_surface():
    solid = np.zeros((7, 7, 7), bool)
    solid[1:6, 1:6, 1:6] = True
    surface = surface_voxels(solid)
    assert surface.sum() == 5**3 - 3**3
    assert not surface[2:5, 2:5, 2:5].any()


def test_voxels_at_the_border_of_the_grid_are_surface():
    assert surface_voxels(np.ones((3, 3, 3), bool)).sum() == 26


def test_cubes_are_grouped_by_class():
    occupancy = random_occupancy(1)
    cubes = cube_lists(occupancy, 10_000)
    shown = surface_voxels(occupancy.occupied)
    assert sum(len(c.centers_m) for c in cubes) == shown.sum()
    for group in cubes:
        index, inside = GRID.index_of(group.centers_m)
        assert inside.all() and group.name == CLASS_NAMES[group.marker_id]
        assert (occupancy.labels[tuple(index.T)] == group.marker_id).all()


def test_the_cap_keeps_the_nearest():
    occupancy = random_occupancy(2)
    kept = np.concatenate([c.centers_m for c in cube_lists(occupancy, 20)])
    index = np.argwhere(surface_voxels(occupancy.occupied))
    distances = np.sort(np.linalg.norm(GRID.center_of(index), axis=1))
    assert len(kept) == 20
    np.testing.assert_allclose(np.sort(np.linalg.norm(kept, axis=1)), distances[:20])


@pytest.mark.parametrize('frame', ['v', 've', 'vel', 'velo', 'velo_link_ü'])
def test_bytes_equal_the_message_objects(frame):
    """Frame names of every length modulo 4 move the alignment of all that follows."""
    cubes = cube_lists(random_occupancy(3), 200)
    fast = marker_array_bytes(12_345_678_901, frame, cubes)
    slow = serialize_message(marker_array(12_345_678_901, frame, cubes))
    assert deserialize_message(fast, MarkerArray) == deserialize_message(slow, MarkerArray)


def test_the_first_marker_deletes_the_previous_ones():
    written = MarkerWriter()(random_occupancy(4), 50)
    array = deserialize_message(written, MarkerArray)
    assert array.markers[0].action == Marker.DELETEALL
    assert {m.type for m in array.markers[1:]} == {Marker.CUBE_LIST}
    assert len({(m.ns, m.id) for m in array.markers[1:]}) == len(array.markers) - 1
    assert sum(len(m.points) for m in array.markers) == 50
    one = array.markers[1]
    assert (one.scale.x, one.color.a, one.pose.orientation.w) == (0.5, 1.0, 1.0)
    assert (one.header.frame_id, one.header.stamp.nanosec) == ('velo_link', 345_678_901)


def test_an_empty_map_still_deletes():
    zeros = np.zeros(GRID.shape, np.uint8)
    written = MarkerWriter()(Occupancy(zeros, zeros, GRID, 0, 'v'), 10)
    assert [m.action for m in deserialize_message(written, MarkerArray).markers] == [3]


def test_another_layout_falls_back_to_objects(monkeypatch):
    def other_layout(*arguments):
        return marker_array_bytes(*arguments)[:-8]

    monkeypatch.setattr(markers, 'marker_array_bytes', other_layout)
    writer = MarkerWriter()
    assert not writer.fast
    array = writer(random_occupancy(5), 50)
    assert isinstance(array, MarkerArray)
    assert sum(len(m.points) for m in array.markers) == 50
