"""Feed a node for a long time and look at it from outside."""

from __future__ import annotations

import logging
import os
import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.soak.feeder import INPUT_TOPICS, Feeder
from benchmark.speed.processes import cpu_s
from benchmark.speed.publishing import use_ros_environment
from cigocc_ros.core.frames import CameraFrame
from cigocc_ros.core.rotation import quaternion_xyzw
from cigocc_ros.replay.processes import Processes, node_command, ros_environment
from cigocc_ros.runtime.random_frames import random_frame

logger = logging.getLogger(__name__)
NODE = 'occ_node'
SEED = 3
PACE_FRAMES, OVERLOAD, HIGHEST_HZ = 10, 1.5, 60.0
"""The highest rate: half as many again as the node can take, so that it never rests."""
SAMPLES, SHORTEST_S = 360, 1.0
LOG_EVERY_S = 60.0


@dataclass(frozen=True)
class Sample:
    """The node at one moment, and the clouds since the sample before. NaN without clouds."""

    t_s: float
    rss_mb: float
    threads: int
    fds: int
    children: int
    cpu_percent: float
    clouds: int
    latency_p50_ms: float
    latency_p95_ms: float


def soak(model: str, seconds: float, rate_hz: float | None, threads: int, logs: Path) -> Any:
    """Return samples and counters of a run of a node with a model; raise EngineError."""
    domain_id, frame = use_ros_environment(), random_frame(np.random.default_rng(SEED), 0)
    with Processes(logs, ros_environment(domain_id)) as processes:
        # a name of its own: whoever else enters the domain is neither heard nor fed
        name = f'occ_soak_{os.getpid()}'
        processes.start(NODE, _command(name, model, frame, threads))
        feeder = Feeder(domain_id, name, frame)
        try:
            return _fed(feeder, processes, seconds, rate_hz)
        finally:
            feeder.close()


def _command(name: str, model: str, frame: CameraFrame, threads: int) -> list[str]:
    velo_from_cam = frame.cam_from_velo[:3, :3].T
    parameters = {
        'model': model,
        'threads': threads,
        'extrinsics.translation': (-velo_from_cam @ frame.cam_from_velo[:3, 3]).tolist(),
        'extrinsics.rotation': list(quaternion_xyzw(velo_from_cam)),
    }
    topics = {topic: f'{name}/{topic}' for topic in INPUT_TOPICS}
    return node_command(NODE, name, [parameters], topics)


def _fed(
    feeder: Feeder, processes: Processes, seconds: float, rate_hz: float | None
) -> dict[str, Any]:
    feeder.await_node(lambda: processes.check(NODE))
    feeder.pace_s(2)  # the first ones meet who listens
    pace_s = feeder.pace_s(PACE_FRAMES)
    chosen_hz = rate_hz or min(HIGHEST_HZ, OVERLOAD / pace_s)
    logger.info('an answer takes %.0f ms; %.1f images a second', 1e3 * pace_s, chosen_hz)
    pid, started_s = processes.pid(NODE), time.monotonic()
    every_s, samples = max(SHORTEST_S, seconds / SAMPLES), []
    clock = _Clock(pid)
    feeder.latencies_ms.clear()
    while (t_s := time.monotonic() - started_s) < seconds:
        feeder.feed(chosen_hz, min(every_s, max(seconds - t_s, 0.1)))
        processes.check(NODE)
        samples.append(_sample(pid, time.monotonic() - started_s, clock.percent(), feeder))
        clock.log(samples[-1], feeder)
    feeder.settle(lambda: processes.check(NODE))
    return {
        'rate_hz': round(chosen_hz, 2),
        'pace_ms': round(1e3 * pace_s, 1),
        'seconds': round(time.monotonic() - started_s, 1),
        'samples': [asdict(sample) for sample in samples],
        'sent': feeder.sent,
        'heard': feeder.heard,
        'report': feeder.report,
        'messages': feeder.messages,
    }


class _Clock:
    """Processor time between samples, and a line a minute."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._cpu_s, self._wall_s = cpu_s(pid), time.monotonic()
        self._next_log_s = 0.0

    def percent(self) -> float:
        cpu, wall = cpu_s(self._pid), time.monotonic()
        share = (cpu - self._cpu_s) / max(wall - self._wall_s, 1e-6)
        self._cpu_s, self._wall_s = cpu, wall
        return 100 * share

    def log(self, sample: Sample, feeder: Feeder) -> None:
        if sample.t_s >= self._next_log_s:
            self._next_log_s = sample.t_s + LOG_EVERY_S
            logger.info(
                '%.0f s: %d sent, %d heard, %s', sample.t_s, feeder.sent, feeder.heard, sample
            )


def _sample(pid: int, t_s: float, cpu_percent: float, feeder: Feeder) -> Sample:
    latencies, feeder.latencies_ms = feeder.latencies_ms, []
    p50, p95 = np.percentile(latencies, [50, 95]) if latencies else (float('nan'),) * 2
    root = Path('/proc') / str(pid)
    resident = re.search(r'^VmRSS:\s+(\d+) kB', (root / 'status').read_text(), re.MULTILINE)
    if resident is None:
        raise ProcessLookupError(f'process {pid} has no memory any more')
    tasks = list((root / 'task').iterdir())
    return Sample(
        t_s=round(t_s, 2),
        rss_mb=round(int(resident[1]) / 1024, 2),
        threads=len(tasks),
        fds=len(list((root / 'fd').iterdir())),
        children=len((root / 'task' / str(pid) / 'children').read_text().split()),
        cpu_percent=round(cpu_percent, 1),
        clouds=len(latencies),
        latency_p50_ms=round(float(p50), 2),
        latency_p95_ms=round(float(p95), 2),
    )
