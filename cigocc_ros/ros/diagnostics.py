"""The state of the node on /diagnostics, once a second."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node
from rclpy.qos import QoSProfile

from cigocc_ros.ros.counters import Snapshot, percentile
from cigocc_ros.ros.stamps import steady_clock

PERIOD_S = 1.0
SILENCE_S, LONGEST_SILENCE_S = 2.0, 30.0
"""A camera is silent after so long; a slow one after twice its interval, and after the second."""


@dataclass(frozen=True)
class NodeState:
    """What is not counted but true at this moment; ages in seconds."""

    enabled: bool
    backend: str
    model_id: str
    info_age_s: float | None
    image_topic: str
    image_reliability: str
    extrinsics_source: str
    extrinsics_problem: str
    engine_problem: str = ''
    info_topic: str = ''
    extrinsics_warning: str = ''
    semantic_topic: str = ''
    semantic_classes: str = ''
    """Empty where no label images are asked for."""


def assess(state: NodeState, now: Snapshot, before: Snapshot) -> tuple[bytes, str]:
    """Return level and message from the state and what happened since the last report."""
    arrived = now.frames_in - before.frames_in
    dropped = {reason: n - before.dropped.get(reason, 0) for reason, n in now.dropped.items()}
    dropped = {reason: count for reason, count in dropped.items() if count}
    if state.extrinsics_problem and now.processed == before.processed:
        return (
            DiagnosticStatus.ERROR,
            f'no output, extrinsics are missing: {state.extrinsics_problem}',
        )
    if state.engine_problem:
        return DiagnosticStatus.ERROR, f'no output: {state.engine_problem}'
    if not state.enabled:
        return DiagnosticStatus.OK, 'disabled by ~/enable'
    silent = now.last_image_age_s is None or now.last_image_age_s >= silence_s(now)
    if dropped and not silent:
        what = ', '.join(f'{count} {reason}' for reason, count in sorted(dropped.items()))
        level = DiagnosticStatus.ERROR if now.processed == before.processed else None
        return level or DiagnosticStatus.WARN, f'frames dropped: {what}'
    if silent:
        return DiagnosticStatus.WARN, f'no images on {state.image_topic}'
    lost = now.lost - before.lost
    if lost > arrived:
        return (
            DiagnosticStatus.WARN,
            f'running, but {lost} of {lost + arrived} images got lost on the way',
        )
    if state.extrinsics_warning:
        return DiagnosticStatus.WARN, f'running, but {state.extrinsics_warning}'
    if now.doubts:
        first, *more = now.doubts.values()
        others = f' ({len(more)} more below)' if more else ''
        return DiagnosticStatus.WARN, f'running, but doubtful: {first}{others}'
    if now.stamp_faults != before.stamp_faults:
        new = Counter(now.stamp_faults) - Counter(before.stamp_faults)
        what = ', '.join(f'{count} {fault}' for fault, count in sorted(new.items()))
        return DiagnosticStatus.WARN, f'running, but stamps are wrong: {what}'
    unused = _unused(now, before)
    if unused:
        return DiagnosticStatus.WARN, f'running, but {unused} could not be used'
    return DiagnosticStatus.OK, 'running'


def _unused(now: Snapshot, before: Snapshot) -> str:
    """Name the kinds of priors that some frames had to go without."""
    failed = {
        'depth priors': now.prior_failed != before.prior_failed,
        'semantic priors': now.semantic_failed != before.semantic_failed,
    }
    return ' and '.join(kind for kind, some in failed.items() if some)


def silence_s(now: Snapshot) -> float:
    """Return how long a camera of this rate may say nothing."""
    return max(SILENCE_S, min(2 * now.image_interval_s, LONGEST_SILENCE_S))


def values(state: NodeState, now: Snapshot) -> dict[str, str]:
    """Return what the report lists, in its order."""
    return {
        'enabled': str(state.enabled),
        'frames in': str(now.frames_in),
        'lost before the node': str(now.lost),
        'processed': str(now.processed),
        'replaced by a newer frame': str(now.replaced),
        'dropped': str(sum(now.dropped.values())),
        **{f'dropped: {reason}': str(n) for reason, n in sorted(now.dropped.items())},
        'in flight': str(now.in_flight),
        **{f'stamp: {fault}': str(n) for fault, n in sorted(now.stamp_faults.items())},
        **{f'doubt: {name}': text for name, text in now.doubts.items()},
        'depth priors used': str(now.prior_used),
        **{f'depth prior: {reason}': str(n) for reason, n in sorted(now.prior_failed.items())},
        **_semantics(state, now),
        'processing time median [ms]': f'{percentile(now.processing_ms, 50):.1f}',
        'processing time p95 [ms]': f'{percentile(now.processing_ms, 95):.1f}',
        'pipeline latency median [ms]': f'{percentile(now.pipeline_ms, 50):.1f}',
        'pipeline latency p95 [ms]': f'{percentile(now.pipeline_ms, 95):.1f}',
        'backend': state.backend,
        'engine': state.engine_problem or 'ok',
        'model id': state.model_id,
        'image topic': state.image_topic,
        'image reliability': state.image_reliability,
        'camera_info topic': state.info_topic,
        'camera_info age [s]': _age(state.info_age_s),
        'extrinsics': f'{state.extrinsics_source}: '
        f'{state.extrinsics_problem or state.extrinsics_warning or "ok"}',
        'last error': now.last_error or 'none',
        'last error age [s]': _age(now.last_error_age_s),
    }


def _semantics(state: NodeState, now: Snapshot) -> dict[str, str]:
    """Return what there is to say of label images; nothing where none are asked for."""
    if not state.semantic_classes:
        return {}
    failed = sorted(now.semantic_failed.items())
    known, foreign = zip(*now.semantic_shares, strict=True) if now.semantic_shares else ((), ())
    return {
        'semantic prior topic': state.semantic_topic,
        'semantic classes': state.semantic_classes,
        'semantic priors used': str(now.semantic_used),
        **{f'semantic prior: {reason}': str(n) for reason, n in failed},
        'label pixels with a class median [%]': f'{100 * percentile(known, 50):.1f}',
        'label pixels of no id of the set median [%]': f'{100 * percentile(foreign, 50):.1f}',
    }


def _age(age_s: float | None) -> str:
    return 'never' if age_s is None else f'{age_s:.1f}'


class Diagnostics:
    """Publish what the node does while it loads, then the report by a timer."""

    def __init__(self, node: Node) -> None:
        """Create the publisher."""
        self._node = node
        self._loading_at_s = 0.0
        self._publisher = node.create_publisher(
            DiagnosticArray, '/diagnostics', QoSProfile(depth=1)
        )

    def report_loading(self, message: str) -> None:
        """Publish why there is no output yet, not more than once a period; nothing if empty."""
        now_s = time.monotonic()
        if message and now_s >= self._loading_at_s:
            self._loading_at_s = now_s + PERIOD_S
            self._publish(DiagnosticStatus.WARN, f'no output yet: {message}', '', {})

    def start(self, snapshot: Callable[[], Snapshot], state: Callable[[], NodeState]) -> None:
        """Start the reports of a node that runs."""
        self._snapshot, self._state = snapshot, state
        self._before = self._news_since = snapshot()
        self._node.create_timer(PERIOD_S, self._report, clock=steady_clock())

    def _report(self) -> None:
        now, state = self._snapshot(), self._state()
        if _fates(now) != _fates(self._before):
            self._news_since = self._before
        # between the images of a slow camera, what became of the last one is still true
        level, message = assess(state, now, self._news_since)
        self._before = now
        self._publish(level, message, state.model_id, values(state, now))

    def _publish(
        self, level: bytes, message: str, hardware_id: str, listed: Mapping[str, str]
    ) -> None:
        status = DiagnosticStatus(
            level=level,
            name=f'{self._node.get_fully_qualified_name()}: occupancy',
            message=message,
            hardware_id=hardware_id,
            values=_key_values(listed),
        )
        report = DiagnosticArray(status=[status])
        report.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(report)


def _fates(snapshot: Snapshot) -> tuple[int, int, int]:
    return snapshot.frames_in, snapshot.processed, sum(snapshot.dropped.values())


def _key_values(entries: Mapping[str, str]) -> list[KeyValue]:
    return [KeyValue(key=key, value=value) for key, value in entries.items()]
