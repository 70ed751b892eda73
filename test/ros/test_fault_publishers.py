"""Cameras and subscribers as processes that die, stall, or cannot keep up."""

import os
import signal
import sys
import time

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('onnxruntime')

from fixtures_faults import (
    OK,
    WARN,
    Patient,
    assert_no_more,
    camera_process,
    held,
    node_process,
    nothing_leaks,
    wait_until,
)
from fixtures_processes import process, wait_for_line
from fixtures_tiny_model import build_tiny_model_dir

from cigocc_ros.ros import diagnostics
from cigocc_ros.ros.input.subscriptions import SequenceGaps
from cigocc_ros.ros.stamps import stamp_to_ns


@pytest.fixture(scope='module')
def model_dir(tmp_path_factory):
    return build_tiny_model_dir(tmp_path_factory.mktemp('models') / 'handmade')


def test_a_camera_that_stalls_then_dies_then_returns(graph, model_dir, tmp_path):
    with node_process(graph, model_dir, tmp_path) as node:
        ears = node.ears
        with camera_process(tmp_path, 20.0) as camera:
            graph.until(lambda: ears.clouds)
            ears.until_said('running', OK)
            before = held(node.pid)

            os.killpg(camera.pid, signal.SIGSTOP)
            ears.until_said('no images on /image', WARN)
            heard = len(ears.clouds)
            os.killpg(camera.pid, signal.SIGCONT)
            graph.until(lambda: len(ears.clouds) > heard)
            ears.until_said('running', OK)

            os.killpg(camera.pid, signal.SIGKILL)
            camera.wait()
        ears.until_said('no images on /image', WARN)
        with camera_process(tmp_path, 20.0, name='again'):
            ears.until_cloud(lambda: None)
            ears.until_said('running', OK)
            assert_no_more(held(node.pid), before)
        assert ears.values['dropped'] == '0' and 'Traceback' not in node.log()


def test_a_camera_that_returns_with_best_effort(graph, model_dir, tmp_path):
    """The subscription falls back once, and still hears reliable cameras afterwards."""
    from fixtures_ros import Camera
    from rclpy.qos import QoSProfile, ReliabilityPolicy

    best_effort = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    with node_process(graph, model_dir, tmp_path) as node:
        first = Camera(graph)
        node.ears.until_cloud(first.publish)
        for publisher in (first.images, first.infos):
            graph.observer.destroy_publisher(publisher)
        second = Camera(graph, qos=best_effort)
        second.stamp_ns = first.stamp_ns
        node.ears.until_cloud(second.publish)
        node.ears.until_said('running', OK, second.publish)
        assert node.ears.values['image reliability'] == 'best_effort'
        for publisher in (second.images, second.infos):
            graph.observer.destroy_publisher(publisher)
        third = Camera(graph)
        third.stamp_ns = second.stamp_ns
        node.ears.until_cloud(third.publish)


SLOW_SUBSCRIBER = """
import rclpy, sys
from sensor_msgs.msg import PointCloud2
rclpy.init()
node = rclpy.create_node('slow')
def heard(cloud):
    print('heard', cloud.header.stamp.sec * 10**9 + cloud.header.stamp.nanosec, flush=True)
node.create_subscription(PointCloud2, 'occ/occupancy', heard, 1)
rclpy.spin(node)
"""


def test_a_subscriber_that_stands_still_holds_up_nobody(graph, model_dir, tmp_path):
    output = tmp_path / 'slow.log'
    with (
        node_process(graph, model_dir, tmp_path) as node,
        process([sys.executable, '-c', SLOW_SUBSCRIBER], output) as slow,
        camera_process(tmp_path, 30.0),
    ):
        ears = node.ears
        wait_for_line(output, 'heard', slow)
        ears.until_said('running', OK)
        before = held(node.pid)
        os.killpg(slow.pid, signal.SIGSTOP)
        heard = len(ears.clouds)
        graph.until(lambda: len(ears.clouds) > heard + 60)  # the others hear on, two seconds
        ears.until_said('running', OK)
        assert_no_more(held(node.pid), before)
        newest = stamp_to_ns(ears.clouds[-1].header.stamp)
        os.killpg(slow.pid, signal.SIGCONT)
        # it goes on with the newest, not with a queue of old ones
        wait_until(lambda: last_heard(output) > newest, 'clouds in the slow subscriber')
    assert len(output.read_text().splitlines()) < len(ears.clouds)


def last_heard(output) -> int:
    return int(output.read_text().split('heard')[-1])


@pytest.mark.parametrize(
    ('numbers', 'publishers', 'missed'),
    [
        ([7, 8, 9], 1, [0, 0, 0]),
        ([7, 9, 14], 1, [0, 1, 4]),
        ([90, 91, 1, 3], 1, [0, 0, 0, 1]),  # a publisher that restarted
        ([7, 100, 8, 101], 2, [0, 0, 0, 0]),  # two, each with numbers of its own
        ([None, None], 1, [0, 0]),  # Humble
    ],
)
def test_gaps_in_the_numbers_of_dds(numbers, publishers, missed):
    gaps = SequenceGaps(lambda: publishers)
    infos = [{'publication_sequence_number': number} for number in numbers]
    assert [gaps.missed(info) for info in infos] == missed


def test_images_that_get_lost_on_the_way_are_counted(graph, monkeypatch):
    """The node does not come to take them: its queue of five overflows, as on a busy CPU."""
    monkeypatch.setattr(diagnostics, 'PERIOD_S', 0.2)
    patient = Patient(graph)
    with nothing_leaks(patient):
        sent, before = [], patient.counted
        for _ in range(30):
            sent.append(patient.camera.publish())
            time.sleep(0.005)  # DDS takes each one, only the node stands still
        patient.until_cloud(lambda: sent.append(patient.camera.publish()))
        graph.until(
            lambda: patient.clouds[-1].header.stamp == sent[-1].header.stamp,
            lambda: sent.append(patient.camera.publish()),
        )
        now = patient.counted
        assert now.lost >= 20
        arrived = now.frames_in - before.frames_in
        assert arrived + now.lost - before.lost == len(sent)  # nothing is unaccounted
        patient.until_said('running', OK, patient.camera.publish)
        assert int(patient.values['lost before the node']) == now.lost
