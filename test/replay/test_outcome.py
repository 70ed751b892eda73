"""From an occupancy to a cloud, to the collector's folder, and back."""

import json
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip('rclpy')

from cigocc_ros.core.errors import FrameError
from cigocc_ros.core.frames import Occupancy
from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID
from cigocc_ros.replay.cloud_reading import points_from_cloud
from cigocc_ros.replay.outcome import load_cloud, occupancy_from_points, read_collected
from cigocc_ros.ros.output.clouds import cloud_from_occupancy
from cigocc_ros.ros.output.grids import class_info_json

GRID = SEMANTIC_KITTI_GRID.with_shape((64, 64, 8))


@pytest.fixture
def occupancy() -> Occupancy:
    random = np.random.default_rng(5)
    labels = (random.integers(0, 20, GRID.shape) * (random.random(GRID.shape) < 0.1)).astype('u1')
    probability = np.where(labels > 0, random.integers(128, 256, GRID.shape), 0).astype('u1')
    return Occupancy(labels, probability, GRID, 1_500_000_000, 'velo_link')


def test_a_cloud_gives_the_occupancy_back(occupancy):
    points = points_from_cloud(cloud_from_occupancy(occupancy))
    back = occupancy_from_points(points, GRID, occupancy.stamp_ns, 'velo_link')
    np.testing.assert_array_equal(back.labels, occupancy.labels)
    np.testing.assert_array_equal(back.probability, occupancy.probability)


def test_a_cloud_with_class_confidence_gives_it_back(occupancy):
    sure = np.where(occupancy.labels > 0, occupancy.labels * 9, 0).astype('u1')
    points = points_from_cloud(cloud_from_occupancy(replace(occupancy, class_probability=sure)))
    back = occupancy_from_points(points, GRID, 0, 'velo_link')
    np.testing.assert_array_equal(back.class_probability, sure)
    plain = points_from_cloud(cloud_from_occupancy(occupancy))
    assert occupancy_from_points(plain, GRID, 0, 'velo_link').class_probability is None
    spoilt = points.copy()
    spoilt['class_confidence'][0] = 1.5
    with pytest.raises(FrameError, match='probabilities of 0 to 1'):
        occupancy_from_points(spoilt, GRID, 0, 'velo_link')


def test_a_truncated_cloud_is_refused(occupancy):
    cloud = cloud_from_occupancy(occupancy)
    cloud.data = cloud.data[:-4]
    with pytest.raises(FrameError, match='announced'):
        points_from_cloud(cloud)


def test_points_of_another_grid_are_refused(occupancy):
    points = points_from_cloud(cloud_from_occupancy(occupancy)).copy()
    points['x'][:2] += 1000
    with pytest.raises(FrameError, match=r'2 of \d+ points lie outside'):
        occupancy_from_points(points, GRID, 0, 'velo_link')
    with pytest.raises(FrameError, match='label'):
        occupancy_from_points(points[['x', 'y', 'z']], GRID, 0, 'velo_link')


def test_events_are_read_while_they_are_written(tmp_path):
    info = {
        'kind': 'class_info',
        'content': json.loads(class_info_json('m', GRID, 'velo_link', 'mono8')),
    }
    cloud = {'kind': 'occupancy', 'stamp_ns': 7, 'frame_id': 'velo_link', 'latency_ms': 3.5}
    cloud |= {'class_counts': [0, 2], 'file': '000001.npz'}
    events = [info, cloud, {'kind': 'processing_time_ms', 'value': 12.0}]
    events += [{'kind': 'markers', 'cubes': {'car': 3, 'road': 4}}]
    text = ''.join(json.dumps(event) + '\n' for event in events)
    (tmp_path / 'events.jsonl').write_text(text + '{"kind": "mark')
    collected = read_collected(tmp_path)
    assert collected.grid == GRID
    assert collected.clouds[0].file == tmp_path / '000001.npz'
    assert collected.clouds[0].class_counts == (0, 2)
    assert (collected.processing_time_ms, collected.marker_cubes) == ([12.0], [7])


def test_the_collector_writes_what_it_hears(tmp_path, graph, occupancy):
    from sensor_msgs.msg import Image, PointCloud2
    from std_msgs.msg import Float64

    from cigocc_ros.replay.collector import Collector
    from cigocc_ros.ros.players.kitti_messages import image_from_rgb

    picture = np.random.default_rng(1).integers(0, 256, (6, 9, 3), np.uint8)
    cloud = cloud_from_occupancy(occupancy)
    image = image_from_rgb(picture)
    image.header.stamp = cloud.header.stamp
    collector = Collector(tmp_path, context=graph.context)
    graph.executor.add_node(collector)
    topics = {
        name: graph.observer.create_publisher(kind, name, 10)
        for name, kind in {
            'image': Image,
            'ground_truth': PointCloud2,
            'occ/occupancy': PointCloud2,
            'occ/debug/processing_time_ms': Float64,
        }.items()
    }
    graph.until(lambda: all(topic.get_subscription_count() for topic in topics.values()))
    topics['image'].publish(image)
    topics['ground_truth'].publish(cloud)
    topics['occ/debug/processing_time_ms'].publish(Float64(data=4.0))
    graph.until(lambda: collector._images and collector._truths)
    topics['occ/occupancy'].publish(cloud)
    graph.until(lambda: read_collected(tmp_path).clouds)
    (heard,) = read_collected(tmp_path).clouds
    assert heard.stamp_ns == occupancy.stamp_ns and heard.latency_ms >= 0
    assert sum(heard.class_counts) == occupancy.occupied.sum()
    content = load_cloud(heard.file)
    np.testing.assert_array_equal(content.image, picture)
    assert len(content.truth_points) == len(content.points) == occupancy.occupied.sum()
