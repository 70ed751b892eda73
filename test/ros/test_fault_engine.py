"""An engine that raises, hangs past its deadline, or gets more frames than it can take."""

import os
import signal
import threading

import pytest

pytest.importorskip('rclpy')

from fixtures_engine import build, build_golden_model_dir
from fixtures_faults import (
    ERROR,
    OK,
    Ears,
    Patient,
    assert_no_more,
    camera_process,
    held,
    nothing_leaks,
    wait_until,
)
from fixtures_processes import ENDS_WITHIN_S, REPOSITORY, command, process, wait_for_line
from fixtures_ros import EXTRINSICS, Camera
from rclpy.parameter import Parameter

from cigocc_ros.ros import diagnostics, worker
from cigocc_ros.ros.node import OccNode
from cigocc_ros.ros.stamps import stamp_to_ns
from cigocc_ros.runtime.tensorrt import builder_process


@pytest.fixture
def reports_often(monkeypatch):
    monkeypatch.setattr(diagnostics, 'PERIOD_S', 0.2)


def faulty_node(fault: str) -> list[str]:
    """Return the command of a node whose engine fails."""
    words = command('occ_node', dict(EXTRINSICS))
    words[1:2] = [str(REPOSITORY / 'test' / 'fault_node.py'), fault]
    return words


def test_an_engine_that_raises_on_one_frame(graph, reports_often):
    patient = Patient(graph)
    with nothing_leaks(patient):
        patient.graph.predictor.error = RuntimeError('out of memory')
        said = patient.until_said('engine_error', ERROR, patient.camera.publish)
        assert said.message.startswith('frames dropped')
        assert 'RuntimeError: out of memory' in patient.counted.last_error
        patient.graph.predictor.error = None


def test_an_engine_that_hangs_and_comes_back(graph, reports_often, monkeypatch):
    """On a CPU nothing can end the call: the node says so, and goes on if it returns."""
    monkeypatch.setattr(worker, 'HANGS_AFTER_S', 0.3)
    patient = Patient(graph)
    with nothing_leaks(patient):
        heard = len(patient.clouds)
        graph.predictor.may_answer.clear()
        said = patient.until_said(
            'no output: the engine has been busy', ERROR, patient.camera.publish
        )
        assert 'restart the node' in said.message and len(patient.clouds) == heard
        assert patient.values['engine'].startswith('the engine has been busy')
        assert patient.counted.in_flight <= 2 and patient.counted.replaced > 0
        graph.predictor.may_answer.set()


def test_a_slow_engine_is_no_hang(monkeypatch):
    """The limit follows the slowest frame so far, the warm-up before the first one."""
    from fixtures_ros import FakePredictor

    monkeypatch.setattr(worker, 'HANGS_AFTER_S', 0.0)
    predictor, told = FakePredictor(), []
    wait = threading.Event()
    predictor.warm_up = lambda: wait.wait(0.1)
    subject = worker.Worker(
        lambda: predictor, lambda *_: told.append((wait.wait(0.2), subject.hang)), lambda: None
    )
    subject.start()
    subject.mailbox.put(1)
    wait_until(lambda: told, 'the frame')
    assert subject.stop() and told == [(False, '')]


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM], ids=['SIGINT', 'SIGTERM'])
def test_a_node_whose_engine_hangs_still_ends(graph, tmp_path, number):
    """Code 1, for the operator should know; the output says why."""
    output, camera = tmp_path / 'node.log', Camera(graph)
    with process(faulty_node('hang'), output) as child:
        wait_for_line(output, 'ready: model', child)
        graph.until(lambda: 'hanging' in output.read_text(), camera.publish)
        os.killpg(child.pid, number)
        assert child.wait(ENDS_WITHIN_S) == 1
    assert 'the engine hangs' in output.read_text()


def test_tensorrt_past_its_deadline_costs_the_frames_meanwhile(
    graph, tmp_path, fake_gpu, reports_often
):
    model = build_golden_model_dir(tmp_path / 'model')
    build(model)
    chosen = {'model': str(model), 'backend': 'tensorrt', 'tensorrt.deadline_s': 0.3, **EXTRINSICS}
    overrides = [Parameter(name, value=value) for name, value in chosen.items()]
    graph.node = OccNode(context=graph.context, parameter_overrides=overrides)
    graph.executor.add_node(graph.node)
    camera, ears = Camera(graph), Ears(graph)
    ears.until_cloud(camera.publish)
    ears.until_said('running', OK, camera.publish)
    before = held()
    event = fake_gpu.cuda.block()
    try:
        graph.until(lambda: 'this frame is dropped' in graph.report().last_error, camera.publish)
    finally:
        event.set()
    ears.until_cloud(camera.publish)
    ears.until_said('running', OK, camera.publish)
    assert_no_more(held(), before)
    assert graph.node.worker.predictor.engine.rebuilds == 0


def test_60_hz_on_a_2_hz_engine(graph, tmp_path):
    """The newest frame wins; every frame is counted; nothing piles up."""
    ears, output = Ears(graph), tmp_path / 'node.log'
    with process(faulty_node('slow'), output) as child:
        wait_for_line(output, 'ready: model', child)
        with camera_process(tmp_path, 60.0):
            graph.until(lambda: len(ears.clouds) >= 2)
            before = held(child.pid)
            ears.until_said('running', OK)
            graph.until(lambda: len(ears.clouds) >= 6)
            graph.until(lambda: int(ears.values['processed']) >= 5)
            now = held(child.pid)
        values = ears.values
    counts = [values[name] for name in ('processed', 'replaced by a newer frame', 'in flight')]
    # a report may fall between the count of a frame and that of the one which it replaced
    assert int(values['frames in']) == sum(map(int, counts))
    assert int(values['in flight']) <= 3 and values['dropped'] == '0'
    assert int(values['replaced by a newer frame']) > 3 * int(values['processed'])
    stamps = [stamp_to_ns(cloud.header.stamp) for cloud in ears.clouds]
    assert stamps == sorted(set(stamps))
    # two frames of work at most lie between a frame and its voxels
    assert float(values['pipeline latency median [ms]']) < 2500
    assert_no_more(now, before)


def test_a_hung_node_ends_before_launch_kills_it():
    killed_after_s = 10.0  # SIGTERM five seconds after SIGINT, SIGKILL five seconds after that
    assert builder_process.STOPS_WITHIN_S < worker.STOPS_WITHIN_S < killed_after_s
