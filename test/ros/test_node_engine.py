"""The node and its TensorRT engine: a build shows in /diagnostics, a shutdown ends it."""

import threading
import time

import pytest

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from fixtures_engine import build, build_golden_model_dir, engine_files
from fixtures_ros import EXTRINSICS, WAIT_S, Camera
from rclpy.executors import ExternalShutdownException
from rclpy.parameter import Parameter

from cigocc_ros.core.errors import EngineError
from cigocc_ros.ros.node import OccNode
from cigocc_ros.ros.occ_parameters import OccParameters
from cigocc_ros.ros.parameters import from_values
from cigocc_ros.runtime.tensorrt.options import TensorRtOptions


@pytest.fixture
def model_dir(tmp_path, fake_gpu):
    return build_golden_model_dir(tmp_path / 'model')


def start(graph, model_dir, **parameters):
    """Start the node as it is started outside of tests."""
    chosen = {'model': str(model_dir), 'backend': 'tensorrt', **EXTRINSICS, **parameters}
    overrides = [Parameter(name, value=value) for name, value in chosen.items()]
    graph.node = OccNode(context=graph.context, parameter_overrides=overrides)
    graph.executor.add_node(graph.node)
    return graph.node


def in_thread(function):
    """Run `function` in a thread; return what holds its result, or its error, when it is over."""
    ended = {}

    def work():
        try:
            ended['result'] = function()
        except BaseException as error:
            ended['error'] = error

    thread = threading.Thread(target=work)
    thread.start()
    return thread, ended


def test_a_missing_engine_is_built_and_diagnostics_tell(graph, model_dir, monkeypatch):
    monkeypatch.setenv('FAKE_TENSORRT_STEP_S', '0.6')
    reports = graph.hear(DiagnosticArray, '/diagnostics')
    thread, ended = in_thread(lambda: start(graph, model_dir))
    graph.until(lambda: any('building' in r.status[0].message for r in reports))
    told = next(r.status[0] for r in reports if 'building' in r.status[0].message)
    assert told.level == DiagnosticStatus.WARN and '%' in told.message
    assert told.name == '/occ: occupancy'
    graph.until(lambda: not thread.is_alive())
    assert 'error' not in ended and len(engine_files(model_dir)) == 2
    camera = Camera(graph)
    graph.until(lambda: graph.report().processed, every=camera.publish)
    graph.until(lambda: 'tensorrt 10.13.2' in str(reports[-1].status[0].values))


def test_a_shutdown_cancels_the_build(graph, model_dir, monkeypatch):
    monkeypatch.setenv('FAKE_TENSORRT_STEP_S', '1.0')
    reports = graph.hear(DiagnosticArray, '/diagnostics')
    thread, ended = in_thread(lambda: start(graph, model_dir))
    graph.until(lambda: any('building' in r.status[0].message for r in reports))
    graph.executor.remove_node(graph.observer)
    graph.context.try_shutdown()
    began = time.monotonic()
    thread.join(WAIT_S)
    assert isinstance(ended['error'], ExternalShutdownException)
    assert time.monotonic() - began < 8 and not engine_files(model_dir)


def test_a_missing_engine_that_may_not_be_built_ends_the_node_with_the_command(graph, model_dir):
    with pytest.raises(EngineError, match='run `cigocc build-engine --model'):
        start(graph, model_dir, **{'tensorrt.build_missing': False})


def test_a_failed_self_check_ends_the_node_before_it_subscribes(graph, model_dir, fake_gpu):
    build(model_dir)
    fake_gpu.trt.wrong_by = 1
    with pytest.raises(EngineError, match='self-check failed.*nothing is published'):
        start(graph, model_dir)
    assert graph.observer.count_subscribers('/image') == 0


def test_a_failing_gpu_costs_a_frame_and_a_lost_engine_is_an_error(graph, model_dir, fake_gpu):
    build(model_dir)
    reports = graph.hear(DiagnosticArray, '/diagnostics')
    start(graph, model_dir)
    camera = Camera(graph)
    graph.until(lambda: graph.report().processed, every=camera.publish)
    fake_gpu.cuda.fail(cuGraphLaunch=700)
    graph.until(lambda: graph.report().dropped.get('engine_error'), every=camera.publish)
    graph.until(lambda: reports and 'lost' in reports[-1].status[0].message, every=camera.publish)
    assert reports[-1].status[0].level == DiagnosticStatus.ERROR
    assert 'no output: tensorrt 10.13.2' in reports[-1].status[0].message


def test_parameters_become_options():
    parameters = from_values(
        OccParameters, {'tensorrt.workspace_mb': 512, 'tensorrt.cuda_graph': False}
    )
    assert parameters.tensorrt == TensorRtOptions(workspace_mb=512, cuda_graph=False)
    assert OccParameters().tensorrt == TensorRtOptions()
