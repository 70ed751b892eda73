"""Stamps and clocks that go wrong. Frames are never dropped for it: diagnostics say so."""

import pytest

pytest.importorskip('rclpy')

from fixtures_faults import WARN, Patient, nothing_leaks
from rosgraph_msgs.msg import Clock

from cigocc_ros.ros import diagnostics
from cigocc_ros.ros.stamps import StampWatch, has_latency, stamp_from_ns, stamp_to_ns

S = 1_000_000_000


@pytest.fixture(autouse=True)
def reports_often(monkeypatch):
    monkeypatch.setattr(diagnostics, 'PERIOD_S', 0.2)


def stamped_image(patient, stamp_ns):
    """Send a frame with a stamp of its own, info alike."""
    camera = patient.camera
    image = camera.image()
    image.header.stamp = stamp_from_ns(stamp_ns)
    camera.publish(image)


def test_a_stamp_of_zero(graph):
    patient = Patient(graph)
    with nothing_leaks(patient):
        before = len(patient.counted.pipeline_ms), patient.counted.processed
        cloud = patient.until_cloud(lambda: stamped_image(patient, 0))
        assert stamp_to_ns(cloud.header.stamp) == 0  # never replaced by the present
        patient.until_said('stamps are wrong', WARN, lambda: stamped_image(patient, 0))
        assert 'stamp: zero' in patient.values
        patient.settled()
        latencies, processed = len(patient.counted.pipeline_ms), patient.counted.processed
        assert latencies == before[0] and processed > before[1]  # no latency of 50 years


def test_a_stamp_in_the_future(graph):
    patient = Patient(graph)
    far_ns = graph.node.get_clock().now().nanoseconds + 3600 * S
    with nothing_leaks(patient):
        cloud = patient.until_cloud(lambda: stamped_image(patient, far_ns))
        assert stamp_to_ns(cloud.header.stamp) == far_ns  # as it came
        said = patient.until_said('stamps are wrong', WARN, lambda: stamped_image(patient, far_ns))
        assert 'in the future' in said.message
        assert min(patient.counted.pipeline_ms) > 0


def test_a_stamp_of_long_ago(graph):
    """A bag without /clock, or the clock of another machine: tf will not know that time."""
    patient = Patient(graph)
    old_ns = graph.node.get_clock().now().nanoseconds - 3600 * S
    stamps = iter(range(old_ns, old_ns + 1000 * S, S // 10))
    with nothing_leaks(patient):
        before = len(patient.counted.pipeline_ms)
        said = patient.until_said(
            'stamps are wrong', WARN, lambda: stamped_image(patient, next(stamps))
        )
        assert 'long past' in said.message
        patient.settled()
        assert len(patient.counted.pipeline_ms) <= before + 1  # of those before, at most


def test_frames_duplicated(graph):
    patient = Patient(graph)
    with nothing_leaks(patient):
        again = patient.camera.image()
        patient.until_said('repeated', WARN, lambda: patient.camera.publish(again))


def test_frames_out_of_order(graph):
    patient = Patient(graph)
    with nothing_leaks(patient):
        base_ns = patient.camera.stamp_ns
        order = iter([3, 1, 4, 2] * 1000)
        heard = len(patient.clouds)

        def publish():
            stamped_image(patient, base_ns + next(order) * S // 5)

        patient.until_said('out of order', WARN, publish)
        patient.settled()
        graph.until(lambda: len(patient.clouds) > heard)
        # each frame is predicted alone, and published in the order in which it came
        assert patient.counted.dropped == {}


def test_the_clock_jumps_back_when_a_bag_starts_again(graph):
    """Simulated time from /clock, which begins again."""
    patient = Patient(graph, use_sim_time=True)
    clock = graph.publisher(Clock, '/clock')
    now_ns = [1000 * S]

    def tick():
        now_ns[0] += S // 10
        clock.publish(Clock(clock=stamp_from_ns(now_ns[0])))
        patient.camera.stamp_ns = now_ns[0]
        patient.camera.publish()

    graph.until(lambda: graph.node.get_clock().now().nanoseconds > 1000 * S, tick)
    patient.until_said('running', b'\0', tick)
    now_ns[0] = 100 * S
    patient.until_said('jumped back', WARN, tick)
    patient.until_said('running', b'\0', tick)
    cloud = patient.until_cloud(tick)
    assert stamp_to_ns(cloud.header.stamp) < 1000 * S
    assert patient.counted.stamp_faults['jumped back'] == 1


def test_simulated_time_without_a_clock(graph):
    """Nobody publishes /clock: frames are predicted, diagnostics go on and say what is odd."""
    patient = Patient(graph, use_sim_time=True)
    patient.until_cloud(patient.camera.publish)
    said = patient.until_said('stamps are wrong', WARN, patient.camera.publish)
    assert 'in the future' in said.message


@pytest.mark.parametrize(
    ('stamps', 'faults'),
    [
        ([1, 2, 3], ['', '', '']),
        ([5, 5], ['', 'repeated']),
        ([5.0, 4.5, 4.8], ['', 'out of order', '']),
        ([8, 2, 3], ['', 'jumped back', '']),
        ([0, 1], ['zero', '']),
        ([100, 101.5, 100.9], ['', 'in the future', '']),
        ([80, 89, 91], ['long past', 'long past', '']),
        ([80, 80, 79.5], ['long past', 'repeated', 'out of order']),
    ],
)
def test_what_a_stamp_is_called(stamps, faults):
    watch = StampWatch()
    now_s = 100 if max(stamps) > 60 else max(stamps)
    assert [watch.fault(int(s * S), now_s * S) for s in stamps] == faults


def test_latency_needs_a_stamp_of_the_past():
    assert has_latency(5, 10) and has_latency(10 * S + S // 2, 10 * S)
    assert not has_latency(0, 10) and not has_latency(20 * S, 10 * S)
    assert not has_latency(5 * S, 20 * S)
