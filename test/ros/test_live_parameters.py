"""Parameters that change while the node runs, through their service; those that refuse."""

import json

import numpy as np
import pytest

pytest.importorskip('rclpy')

from fixtures_ros import EXTRINSICS, Camera
from rclpy.parameter import Parameter
from rclpy.parameter_client import AsyncParameterClient
from sensor_msgs.msg import PointCloud2
from std_srvs.srv import Trigger
from visualization_msgs.msg import MarkerArray

from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID
from cigocc_ros.core.labels import train_from_raw
from cigocc_ros.core.point_records import OCCUPANCY_DTYPE
from cigocc_ros.data.kitti_files import read_voxel_labels
from cigocc_ros.ros.output.publishers import Rate


@pytest.fixture
def running(request, graph, tmp_path):
    """Return graph, camera, a setter through the service, and the clouds heard."""
    clouds = graph.hear(PointCloud2, 'occ/occupancy')
    parameters = {**EXTRINSICS, **getattr(request, 'param', {})}
    if 'save_dir' in parameters:
        parameters['save_dir'] = str(tmp_path / parameters['save_dir'])  # absolute ones stay
    node, camera = graph.start(**parameters), Camera(graph)
    graph.until(lambda: node.count_subscribers('/occ/occupancy') and camera.matched())
    client = AsyncParameterClient(graph.observer, 'occ')
    graph.until(client.services_are_ready)

    def change(**values):
        wanted = [Parameter(name.replace('__', '.'), value=v) for name, v in values.items()]
        future = client.set_parameters(wanted)
        graph.until(future.done)
        return future.result().results

    return graph, camera, change, clouds


def labels_of(cloud) -> list[int]:
    return np.frombuffer(cloud.data, OCCUPANCY_DTYPE)['label'].tolist()


def newest_labels(graph, camera, clouds) -> list[int]:
    clouds.clear()
    stamp = camera.publish().header.stamp
    graph.until(lambda: clouds and clouds[-1].header.stamp == stamp)
    return labels_of(clouds[-1])


@pytest.mark.parametrize(
    ('values', 'labels'),
    [
        ({'shown__classes': 'road'}, [9]),
        ({'shown__min_probability': 0.9}, []),
        ({'shown__max_range_m': 1.0}, []),
        ({'shown__max_range_m': 200.0}, [9, 1]),
        ({'shown__surface_only': True}, [9, 1]),
    ],
)
def test_what_is_shown_changes_with_the_next_frame(running, values, labels):
    graph, camera, change, clouds = running
    assert newest_labels(graph, camera, clouds) == [9, 1]
    (result,) = change(**values)
    assert result.successful, result.reason
    assert newest_labels(graph, camera, clouds) == labels


@pytest.mark.parametrize(
    ('values', 'reason'),
    [
        ({'shown__classes': 'cars'}, "parameter shown.classes: expected 'all' or names of"),
        ({'shown__min_probability': 1.5}, '1.5'),
        ({'rates__bev_hz': -1.0}, '-1'),
        ({'max_markers': 0}, 'max_markers'),
        ({'model': 'other'}, 'read-only'),
        ({'output_frame': 'map'}, 'read-only'),
    ],
)
def test_what_cannot_be_is_refused_with_a_reason(running, values, reason):
    graph, camera, change, clouds = running
    (result,) = change(**values)
    assert not result.successful and reason in result.reason
    assert newest_labels(graph, camera, clouds) == [9, 1]


def test_markers_come_no_faster_than_their_rate(running):
    graph, camera, change, clouds = running
    heard = graph.hear(MarkerArray, 'occ/markers')
    assert change(rates__markers_hz=0.5)[0].successful
    graph.until(lambda: graph.node.count_subscribers('/occ/markers'))
    graph.until(lambda: heard, every=camera.publish)
    before = len(clouds)
    graph.until(lambda: len(clouds) >= before + 5, every=camera.publish)
    assert len(heard) == 1


def test_a_rate_keeps_its_pace_whenever_frames_come(monkeypatch):
    now = [100.0]
    monkeypatch.setattr('cigocc_ros.ros.output.publishers.time.monotonic', lambda: now[0])
    rate, sent = Rate(), 0
    for frame in range(300):
        now[0] = 100 + frame / 30
        sent += rate.due(7.0)
    assert 68 <= sent <= 71  # of ten seconds
    now[0] += 100
    assert rate.due(7.0) and not rate.due(7.0)  # no burst after a pause
    assert rate.due(0.0) and rate.due(0.0)


def save(graph):
    client = graph.observer.create_client(Trigger, 'occ/save_grid')
    graph.until(client.service_is_ready)
    future = client.call_async(Trigger.Request())
    graph.until(future.done)
    return future.result()


def test_save_grid_refuses_without_a_folder_and_nobody_can_name_one_later(running, tmp_path):
    graph, _, change, _ = running
    answer = save(graph)
    assert not answer.success and 'save_dir' in answer.message
    assert not change(save_dir=str(tmp_path))[0].successful
    assert not save(graph).success and not list(tmp_path.iterdir())


@pytest.mark.parametrize('running', [{'save_dir': 'maps'}], indirect=True)
def test_save_grid_writes_what_kitti_tools_read(running, tmp_path):
    graph, camera, change, clouds = running
    answer = save(graph)
    assert not answer.success and 'no grid yet' in answer.message
    newest_labels(graph, camera, clouds)
    change(shown__classes='car')  # what is saved is whole whatever is shown
    answer = save(graph)
    assert answer.success, answer.message
    labels = train_from_raw(read_voxel_labels(answer.message))
    factor = np.array(SEMANTIC_KITTI_GRID.shape) // graph.predictor.grid.shape
    assert (labels == 9).sum() == (labels == 1).sum() == factor.prod()
    facts = json.loads((tmp_path / 'maps' / f'{camera.stamp_ns}.json').read_text())
    assert facts['stamp_ns'] == camera.stamp_ns and facts['model_id'] == 'fake'
    assert facts['frame_id'] == 'velo_link' and facts['raw_ids']['road'] == 40
    assert sorted(p.suffix for p in (tmp_path / 'maps').iterdir()) == ['.json', '.label']


@pytest.mark.parametrize(
    'running', [{'save_dir': folder} for folder in ('/proc/none', '/dev/full/x')], indirect=True
)
def test_save_grid_says_why_it_cannot_write(running):
    graph, camera, _, clouds = running
    newest_labels(graph, camera, clouds)
    answer = save(graph)
    assert not answer.success and 'cannot be written' in answer.message
    assert graph.node.parameters.save_dir in answer.message
