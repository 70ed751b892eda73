"""The pages for newcomers: topics of real drivers, transforms that join one tree, heights."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from fixtures_docs import document_lines

from cigocc_ros.core.rotation import rigid_transform

DOCS = Path(__file__).resolve().parents[2] / 'docs'
LIDAR_HEIGHT_M = 1.73
OPTIONS = {'--x': 0, '--y': 1, '--z': 2}
QUATERNION = ('--qx', '--qy', '--qz', '--qw')


def lines(page: str, *start: str) -> list[list[str]]:
    """Return the lines of a page that begin with these words."""
    words = [line.words for line in document_lines(DOCS / page)]
    return [line for line in words if tuple(line[: len(start)]) == start]


def transforms(page: str) -> dict[tuple[str, str], np.ndarray]:
    """Return (parent, child) -> 4x4 of every static_transform_publisher of a page."""
    found = {}
    for line in lines(page, 'ros2', 'run', 'tf2_ros', 'static_transform_publisher'):
        given = dict(zip(line[4::2], line[5::2], strict=True))
        translation = [float(given.pop(name, 0)) for name in OPTIONS]
        rotation = [float(given.pop(name, name == '--qw')) for name in QUATERNION]
        key = given.pop('--frame-id'), given.pop('--child-frame-id')
        assert not given, f'{page}: {given} is no option of static_transform_publisher'
        found[key] = rigid_transform(translation, rotation)
    return found


def rows(page: str) -> dict[str, list[str]]:
    """Return first cell -> the other cells of every table row."""
    table = re.findall(r'^\| (.+) \|$', (DOCS / page).read_text(), re.M)
    cells = [[cell.strip(' `') for cell in row.split('|')] for row in table]
    return {first: others for first, *others in cells}


def launched(page: str) -> list[dict[str, str]]:
    return [
        dict(word.split(':=', 1) for word in line[4:])
        for line in lines(page, 'ros2', 'launch', 'cigocc_ros', 'occ.launch.py')
    ]


@pytest.mark.parametrize('camera', [0, 1, 2], ids=['RealSense', 'ZED', 'USB'])
def test_the_node_is_launched_with_the_topics_of_the_table(camera):
    table = rows('cameras.md')
    given = launched('cameras.md')[camera]
    wanted = {name: table[name][camera] for name in ('image', 'camera_info', 'depth')}
    assert given == {name: topic for name, topic in wanted.items() if topic != '-'}


@pytest.mark.parametrize('camera', [0, 1, 2], ids=['RealSense', 'ZED', 'USB'])
def test_one_tree_joins_the_camera_to_the_voxels(camera):
    table, known = rows('cameras.md'), transforms('cameras.md')
    root = table['root of its tf tree'][camera]
    root = 'camera_optical' if root == 'none' else root
    camera_in_base, lidar_in_base = known['base_link', root], known['base_link', 'velo_link']
    pose = np.linalg.inv(lidar_in_base) @ camera_in_base
    np.testing.assert_allclose(pose[:3, 3], [0.2, 0, 1.5 - LIDAR_HEIGHT_M], atol=1e-9)
    # a body frame looks along x, an optical one along z
    axis = 2 if root == 'camera_optical' else 0
    np.testing.assert_allclose(pose[:3, axis], [1, 0, 0], atol=1e-9)


def test_the_frame_of_the_usb_camera_is_the_one_that_its_driver_is_given():
    frames = {
        word.partition(':=')[2]
        for line in document_lines(DOCS / 'cameras.md')
        for word in line.words
        if re.match(r'(camera_)?frame_id:=', word)
    }
    assert frames == {'camera_optical'}


def test_realsense_is_started_with_what_makes_its_depth_fit():
    (line,) = lines('cameras.md', 'ros2', 'launch', 'realsense2_camera')
    assert {'align_depth.enable:=true', 'enable_sync:=true'} <= set(line)


def test_every_page_says_the_same_of_the_lidar_frame():
    places = [
        transforms(page).get(('base_link', 'velo_link')) for page in ('camera.md', 'cameras.md')
    ]
    for place in places:
        assert place is not None and place[2, 3] == LIDAR_HEIGHT_M


def test_heights_of_the_page_add_up():
    text = (DOCS / 'camera.md').read_text()
    heights = re.findall(r'^\| ([\d.]+) m \| (-?[\d.]+) \|', text, re.M)
    assert len(heights) >= 4
    for above_ground, z in heights:
        assert float(above_ground) - LIDAR_HEIGHT_M == pytest.approx(float(z), abs=0.006)


@pytest.mark.parametrize(
    ('topic', 'recorded'),
    [
        ('/camera/camera/color/image_raw', True),
        ('/camera/camera/color/camera_info', True),
        ('/camera/camera/aligned_depth_to_color/image_raw', True),
        ('/tf_static', True),
        ('/tf', True),
        ('/camera/camera/depth/image_rect_raw', False),
        ('/rosout', False),
    ],
)
def test_the_expression_of_the_recording_takes_what_the_replay_needs(topic, recorded):
    (line,) = lines('bags.md', 'ros2', 'bag', 'record')
    expression = line[line.index('-e') + 1]
    assert bool(re.fullmatch(expression, topic)) is recorded
    assert shlex.join(line).count(' -e ') == 1


def test_a_bag_of_ones_own_is_played_with_the_topics_that_were_recorded():
    replay = lines('bags.md', 'ros2', 'launch', 'cigocc_ros', 'kitti_replay.launch.py')
    (own,) = [line for line in replay if any('aligned_depth' in word for word in line)]
    (record,) = lines('bags.md', 'ros2', 'bag', 'record')
    expression = record[record.index('-e') + 1]
    topics = [word.partition(':=')[2] for word in own[4:] if not word.startswith('bag:=')]
    assert len(topics) == 3 and all(re.fullmatch(expression, topic) for topic in topics)
