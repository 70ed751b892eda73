"""The node over DDS, in a process of its own."""

from __future__ import annotations

import logging
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.speed.measure import summary
from benchmark.speed.probe import Heard, Probe
from benchmark.speed.processes import cpu_s, forget_peak, peak_rss_mb
from benchmark.speed.publishing import use_ros_environment
from cigocc_ros.core.frames import CameraFrame
from cigocc_ros.core.rotation import quaternion_xyzw
from cigocc_ros.replay.processes import Processes, node_command, ros_environment

logger = logging.getLogger(__name__)
CAMERA_HZ = 10.0
SETTLES_S = 30.0
NODE = 'occ'


@dataclass(frozen=True)
class Load:
    """How images are sent: at a rate, or each one when the answer to the last has come."""

    name: str
    rate_hz: float | None
    markers: bool


LOADS = (
    Load('10 Hz camera', CAMERA_HZ, markers=False),
    Load('full rate', None, markers=False),
    Load('full rate, with markers', None, markers=True),
)


def run_nodes(
    models: dict[str, Path], frame: CameraFrame, threads: int, rounds: int, seconds: float
) -> dict[str, dict[str, Any]]:
    """Return results per model and load; `models` are folders by name."""
    domain_id = use_ros_environment()
    results = {}
    for name, folder in models.items():
        logger.info('node: starting with model %s', name)
        with (
            tempfile.TemporaryDirectory() as logs,
            Processes(Path(logs), ros_environment(domain_id)) as processes,
        ):
            processes.start(NODE, _command(folder, frame, threads))
            probe = Probe(domain_id, frame)
            try:
                results[name] = _measure(probe, processes, rounds, seconds)
            finally:
                probe.close()
    return results


def _command(model_dir: Path, frame: CameraFrame, threads: int) -> list[str]:
    velo_from_cam = frame.cam_from_velo[:3, :3].T
    translation = -velo_from_cam @ frame.cam_from_velo[:3, 3]
    parameters = {
        'model': model_dir,
        'backend': 'onnxruntime',
        'threads': threads,
        'extrinsics.translation': translation.tolist(),
        'extrinsics.rotation': list(quaternion_xyzw(velo_from_cam)),
    }
    topics = {topic: f'/{NODE}/{topic}' for topic in ('image', 'camera_info')}
    return node_command('occ_node', NODE, [parameters], topics)


def _measure(
    probe: Probe, processes: Processes, rounds: int, seconds: float
) -> dict[str, dict[str, Any]]:
    """Return results per load; the loads take turns."""
    probe.await_node(NODE)
    processes.check(NODE)
    turns: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for turn in range(rounds):
        for load in LOADS:
            logger.info('node: %s, turn %d of %d', load.name, turn + 1, rounds)
            turns[load.name].append(_one_turn(probe, NODE, processes.pid(NODE), load, seconds))
            processes.check(NODE)
    return {load.name: _joined(turns[load.name]) for load in LOADS}


def _one_turn(probe: Probe, node: str, pid: int, load: Load, seconds: float) -> dict[str, Any]:
    """Feed the node for a while."""
    heard, subscriptions = probe.listen(node, load.markers)
    try:
        probe.wake(node, heard)
        forget_peak(pid)
        started_s, cpu_started_s = time.perf_counter(), cpu_s(pid)
        _feed(probe, node, heard, load, seconds)
        wall_s = time.perf_counter() - started_s
        cpu = 100 * (cpu_s(pid) - cpu_started_s) / wall_s
        _settle(heard)
        answered_s = max(heard.arrived_s.values(), default=started_s) - started_s
    finally:
        probe.forget(subscriptions)
    return {
        'latencies_ms': heard.latencies_ms,
        'sent': len(heard.sent_s),
        'seconds': max(wall_s, answered_s),
        'cpu_percent': cpu,
        'peak_rss_mb': peak_rss_mb(pid),
        'points': heard.points,
    }


def _feed(probe: Probe, node: str, heard: Heard, load: Load, seconds: float) -> None:
    started_s = time.perf_counter()
    while time.perf_counter() - started_s < seconds:
        if load.rate_hz is None:
            probe.send_and_wait(node, heard)
            continue
        probe.send(node, heard)
        due_s = started_s + len(heard.sent_s) / load.rate_hz
        time.sleep(max(0.0, due_s - time.perf_counter()))


def _settle(heard: Heard) -> None:
    """Wait for the answer to the last image, which the node may not skip."""
    last, deadline = max(heard.sent_s), time.monotonic() + SETTLES_S
    while last not in heard.arrived_s and time.monotonic() < deadline:
        time.sleep(0.01)


def _joined(turns: list[dict[str, Any]]) -> dict[str, Any]:
    """Return one result of all turns."""
    latencies = [ms for turn in turns for ms in turn['latencies_ms']]
    seconds = sum(turn['seconds'] for turn in turns)
    return {
        **summary(latencies),
        'sent': sum(turn['sent'] for turn in turns),
        'frames_per_s': round(len(latencies) / seconds, 2),
        'cpu_percent': round(sum(turn['cpu_percent'] for turn in turns) / len(turns), 1),
        'peak_rss_mb': max(turn['peak_rss_mb'] for turn in turns),
        'points': turns[-1]['points'],
    }
