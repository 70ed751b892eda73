"""The node with an engine that leaves the CPU alone: frames overlap, and nothing else changes."""

import threading

import numpy as np
import pytest

pytest.importorskip('rclpy')

from fixtures_faults import ERROR, OK, Patient, nothing_leaks
from fixtures_ros import FakePredictor
from sensor_msgs.msg import PointCloud2
from std_srvs.srv import SetBool

from cigocc_ros.core.errors import EngineError
from cigocc_ros.ros import diagnostics
from cigocc_ros.ros.stamps import stamp_to_ns
from cigocc_ros.runtime.predictor import Predictor


class Overlapping(FakePredictor):
    overlaps = True

    def __init__(self):
        super().__init__()
        self.preparing: set[str] = set()

    def prepare(self, frame):
        self.preparing.add(threading.current_thread().name)
        return frame

    def infer(self, prepared):
        return self(prepared)


@pytest.fixture
def patient(graph, monkeypatch):
    monkeypatch.setattr(diagnostics, 'PERIOD_S', 0.2)
    graph.predictor = Overlapping()
    return Patient(graph)


def test_voxels_come_in_order_with_their_stamps(graph, patient):
    patient.until_said('running', OK, patient.camera.publish)
    sent: list[int] = []

    def publish():
        sent.append(stamp_to_ns(patient.camera.publish().header.stamp))

    graph.until(lambda: len(patient.clouds) >= 30, publish)
    patient.settled()
    stamps = [stamp_to_ns(cloud.header.stamp) for cloud in patient.clouds]
    assert stamps == sorted(stamps)
    assert graph.predictor.threads == {'predictor'} and graph.predictor.preparing == {'prepare'}
    points = np.frombuffer(patient.clouds[-1].data, np.uint8)
    assert points.size and patient.counted.dropped == {}


def test_every_image_has_a_fate_and_the_newest_wins(graph, patient):
    graph.predictor.may_answer.clear()
    graph.until(lambda: graph.predictor.frames, patient.camera.publish)
    graph.until(lambda: patient.counted.replaced >= 5, patient.camera.publish)
    newest = patient.camera.publish()
    graph.until(lambda: patient.counted.in_flight <= 3)
    graph.predictor.may_answer.set()
    patient.settled()
    graph.until(lambda: patient.clouds[-1].header.stamp == newest.header.stamp)
    counted = patient.counted
    assert counted.frames_in == counted.processed + counted.replaced
    assert len(graph.predictor.frames) == counted.processed


def test_bad_frames_and_engine_errors_are_counted_and_pass(graph, patient):
    with nothing_leaks(patient):
        image = patient.camera.image()
        image.encoding = 'holo9'
        graph.until(
            lambda: patient.counted.dropped.get('unknown_encoding'),
            lambda: patient.camera.publish(image),
        )
        graph.predictor.error = EngineError('out of memory')
        patient.until_said('engine_error', ERROR, patient.camera.publish)
        graph.predictor.error = None
        patient.until_cloud(patient.camera.publish)


def test_disabled_means_that_nothing_more_is_begun(graph, patient):
    client = graph.observer.create_client(SetBool, 'occ/enable')
    graph.until(client.service_is_ready)
    graph.predictor.may_answer.clear()
    graph.until(lambda: graph.predictor.frames, patient.camera.publish)
    graph.until(lambda: patient.counted.frames_in >= 4, patient.camera.publish)
    future = client.call_async(SetBool.Request(data=False))
    graph.until(future.done)
    graph.predictor.may_answer.set()
    patient.settled()
    counted = patient.counted
    assert counted.processed <= 2  # what was in the engine, and what was being prepared
    assert counted.frames_in == counted.processed + counted.replaced


def test_one_thread_serves_an_engine_of_the_cpu(graph):
    clouds = graph.hear(PointCloud2, 'occ/occupancy')
    patient = Patient(graph)
    graph.until(lambda: clouds, patient.camera.publish)
    names = {thread.name for thread in threading.enumerate()}
    assert not {'prepare', 'publish'} & names


@pytest.mark.parametrize('on_gpu', [True, False, None])
def test_a_predictor_overlaps_where_its_engine_is_on_a_gpu(on_gpu):
    fake = FakePredictor()
    if on_gpu is not None:
        fake.engine.on_gpu = on_gpu
    assert Predictor(fake.engine, fake.manifest).overlaps is bool(on_gpu)
