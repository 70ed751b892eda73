"""What /diagnostics says."""

from dataclasses import replace

import pytest

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from fixtures_ros import EXTRINSICS, Camera
from sensor_msgs.msg import PointCloud2

from cigocc_ros.ros.counters import Counters
from cigocc_ros.ros.diagnostics import NodeState, assess, values
from cigocc_ros.ros.log_forwarding import Throttle

STATE = NodeState(True, 'fake', 'id', 0.1, '/image', 'reliable', 'parameters', '')


def test_levels():
    counters = Counters()
    start = counters.snapshot()
    assert assess(STATE, start, start) == (DiagnosticStatus.WARN, 'no images on /image')
    counters.add_image()
    counters.add_processed(5.0, 9.0)
    one = counters.snapshot()
    assert assess(STATE, one, start) == (DiagnosticStatus.OK, 'running')
    counters.add_dropped('wrong_step', 'step is 3')
    bad = counters.snapshot()
    assert assess(STATE, bad, start) == (DiagnosticStatus.WARN, 'frames dropped: 1 wrong_step')
    assert assess(STATE, bad, one) == (DiagnosticStatus.ERROR, 'frames dropped: 1 wrong_step')
    disabled = replace(STATE, enabled=False)
    assert assess(disabled, start, start) == (DiagnosticStatus.OK, 'disabled by ~/enable')
    lost = replace(STATE, extrinsics_problem='no tf')
    assert assess(lost, one, one) == (
        DiagnosticStatus.ERROR,
        'no output, extrinsics are missing: no tf',
    )


def at_intervals(monkeypatch, interval_s, count):
    now = [100.0]
    monkeypatch.setattr('cigocc_ros.ros.counters.time.monotonic', lambda: now[0])
    counters = Counters()
    for _ in range(count):
        now[0] += interval_s
        counters.add_image()
    return counters, now


@pytest.mark.parametrize(
    ('interval_s', 'age_s', 'silent'),
    [(0.1, 1.9, False), (0.1, 2.1, True), (3.0, 5.0, False), (3.0, 6.5, True), (60.0, 31.0, True)],
)
def test_silence_is_measured_by_the_rate_of_the_camera(monkeypatch, interval_s, age_s, silent):
    counters, now = at_intervals(monkeypatch, interval_s, 4)
    before = counters.snapshot()
    now[0] += age_s
    _, message = assess(STATE, counters.snapshot(), before)
    assert (message == 'no images on /image') is silent


def test_a_camera_that_falls_silent_after_a_bad_frame_is_called_silent(monkeypatch):
    counters, now = at_intervals(monkeypatch, 0.1, 4)
    arrived = counters.snapshot()
    counters.add_dropped('wrong_step', 'step is 3')
    assert assess(STATE, counters.snapshot(), arrived)[0] == DiagnosticStatus.ERROR
    now[0] += 5
    level, message = assess(STATE, counters.snapshot(), arrived)
    assert (level, message) == (DiagnosticStatus.WARN, 'no images on /image')


def test_the_list_holds_what_was_counted():
    counters = Counters()
    for processing_ms in (10.0, 20.0, 90.0):
        counters.add_image()
        counters.add_processed(processing_ms, processing_ms + 5)
    counters.add_dropped('no_camera_info', 'nothing yet')
    listed = values(STATE, counters.snapshot())
    assert listed['frames in'] == listed['processed'] == '3'
    assert listed['dropped: no_camera_info'] == '1'
    assert listed['processing time median [ms]'] == '20.0'
    assert listed['pipeline latency median [ms]'] == '25.0'
    assert listed['last error'] == 'no_camera_info: nothing yet'
    assert listed['extrinsics'] == 'parameters: ok'


def test_missing_extrinsics_give_no_output_and_an_error(graph):
    pytest.importorskip('rclpy')
    reports = graph.hear(DiagnosticArray, '/diagnostics')
    clouds = graph.hear(PointCloud2, 'occ/occupancy')
    graph.start()
    camera = Camera(graph)
    graph.until(lambda: graph.report().dropped.get('no_extrinsics', 0) >= 3, every=camera.publish)

    def told() -> bool:
        return any(report.status[0].level == DiagnosticStatus.ERROR for report in reports)

    graph.until(told, every=camera.publish)
    error = [r for r in reports if r.status[0].level == DiagnosticStatus.ERROR][-1].status[0]
    assert error.message.startswith('no output, extrinsics are missing')
    assert not clouds and graph.report().processed == 0 and not graph.predictor.frames


def test_a_running_node_reports_ok(graph):
    reports = graph.hear(DiagnosticArray, '/diagnostics')
    graph.start(**EXTRINSICS)
    camera = Camera(graph)
    graph.until(lambda: any(r.status[0].message == 'running' for r in reports), camera.publish)
    status = reports[-1].status[0]
    listed = {entry.key: entry.value for entry in status.values}
    assert status.name == '/occ: occupancy' and status.hardware_id == 'fake'
    assert listed['backend'] == 'fake' and listed['image reliability'] == 'reliable'
    assert int(listed['processed']) > 0 and float(listed['camera_info age [s]']) < 5


def test_repeated_warnings_are_rare_and_counted():
    now = [0.0]
    throttle = Throttle(lambda: now[0])
    assert throttle('a') == 0
    assert [throttle('a'), throttle('a'), throttle('b')] == [None, None, 0]
    now[0] = 6.0
    assert throttle('a') == 2
