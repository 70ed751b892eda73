"""The board with the names of the classes."""

import numpy as np
import pytest
import yaml

pytest.importorskip('rclpy')

from visualization_msgs.msg import Marker

from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID, VoxelGrid
from cigocc_ros.core.labels import CLASS_NAMES, PALETTE_RGB
from cigocc_ros.ros.output.legend import legend_message

GRIDS = [SEMANTIC_KITTI_GRID, VoxelGrid((0.0, -4.0, -1.0), (0.5, 0.5, 0.5), (8, 16, 4))]


def position(marker):
    point = marker.pose.position
    return np.array([point.x, point.y, point.z])


@pytest.mark.parametrize('grid', GRIDS)
def test_every_class_has_its_colour_and_its_name(grid):
    markers = legend_message(grid, 'velo_link').markers
    cubes = [m for m in markers if m.type == Marker.CUBE]
    names = [m for m in markers if m.type == Marker.TEXT_VIEW_FACING]
    assert [m.text for m in names] == list(CLASS_NAMES[1:])
    for cube, rgb in zip(cubes, PALETTE_RGB[1:], strict=True):
        colour = [cube.color.r, cube.color.g, cube.color.b]
        np.testing.assert_allclose(np.array(colour) * 255, rgb, atol=0.01)
    assert len({(m.ns, m.id) for m in markers}) == len(markers)
    assert {m.header.frame_id for m in markers} == {'velo_link'}
    assert all(m.header.stamp.sec == m.header.stamp.nanosec == 0 for m in markers)
    assert all(m.color.a == 1.0 and min(m.scale.x, m.scale.z) > 0 for m in markers)


@pytest.mark.parametrize('grid', GRIDS)
def test_nothing_hides_a_voxel_or_another_entry(grid):
    markers = legend_message(grid, 'velo_link').markers
    top = np.array(grid.origin_m) + np.array(grid.voxel_size_m) * grid.shape
    places = np.array([position(m) for m in markers])
    letter = markers[0].scale.z
    assert (places[:, 0] > top[0]).all() and (places[:, 2] > top[2]).all()
    assert places[:, 1].max() <= top[1] + letter and places[:, 1].min() > grid.origin_m[1] - letter
    names = [m for m in markers if m.type == Marker.TEXT_VIEW_FACING]
    for one in names:
        left, right = (position(one)[1] + side * 0.3 * letter * len(one.text) for side in (1, -1))
        for other in names:
            same_row = abs(position(one)[2] - position(other)[2]) < letter
            if other is not one and same_row:
                reach = 0.3 * letter * len(other.text)
                y = position(other)[1]
                assert y - reach > left or y + reach < right, (one.text, other.text)


def test_the_board_is_in_view_where_rviz_looks_from(repository):
    """By the orbit of config/occ.rviz, 45 degrees high (Ogre's camera in RViz)."""
    config = yaml.safe_load((repository / 'config' / 'occ.rviz').read_text())
    view = config['Visualization Manager']['Views']['Current']
    focal = np.array([view['Focal Point'][axis] for axis in 'XYZ'])
    away = np.array([np.cos(view['Pitch']) * np.cos(view['Yaw']), 0.0, np.sin(view['Pitch'])])
    eye = focal + view['Distance'] * away
    for marker in legend_message(SEMANTIC_KITTI_GRID, 'velo_link').markers:
        x, y, z = position(marker) - eye
        down_deg = np.degrees(view['Pitch'] + np.arctan2(z + marker.scale.z / 2, x))
        assert abs(down_deg) < 22.5, marker.text
        # render panel of 988 x 743 pixels
        assert abs(np.degrees(np.arctan2(y, x))) < np.degrees(np.arctan(0.414 * 988 / 743))
