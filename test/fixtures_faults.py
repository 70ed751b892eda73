"""A node under fault: what it publishes, what it reports, and what it holds on to."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from fixtures_processes import REPOSITORY, occ_command, process, wait_for_line
from fixtures_ros import EXTRINSICS, WAIT_S, Camera, Graph
from sensor_msgs.msg import PointCloud2

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
CAMERA_SCRIPT = REPOSITORY / 'test' / 'fault_camera.py'
SLACK_FDS, SLACK_THREADS = 4, 0  # DDS opens a socket or a segment per peer, when it meets one


@dataclass(frozen=True)
class Held:
    """What a process holds: numbers of threads, file descriptors and children; memory in MiB."""

    threads: int
    fds: int
    children: int
    rss_mb: float


def held(pid: int | str = 'self') -> Held:
    """Return what Linux counts for a process."""
    root = Path('/proc') / str(pid)
    rss = re.search(r'VmRSS:\s+(\d+) kB', (root / 'status').read_text())
    assert rss is not None
    tasks, children = list((root / 'task').iterdir()), []
    for task in tasks:
        with suppress(FileNotFoundError, ProcessLookupError):  # the thread is gone by now
            children += (task / 'children').read_text().split()
    return Held(len(tasks), len(os.listdir(root / 'fd')), len(children), int(rss[1]) / 1024)


def assert_no_more(now: Held, before: Held, mb: float = 60.0) -> None:
    """Fail where threads, descriptors, children or memory grew."""
    assert now.threads <= before.threads + SLACK_THREADS, (before, now)
    assert now.fds <= before.fds + SLACK_FDS, (before, now)
    assert now.children <= before.children, (before, now)
    assert now.rss_mb <= before.rss_mb + mb, (before, now)


class Ears:
    """What is heard of one node: its clouds and its reports."""

    def __init__(self, graph: Graph, node: str = '/occ') -> None:
        self.graph, self.node = graph, node
        self.clouds: list[PointCloud2] = graph.hear(PointCloud2, f'{node}/occupancy')
        self._arrays = graph.hear(DiagnosticArray, '/diagnostics')

    @property
    def reports(self) -> list[DiagnosticStatus]:
        """The reports of this node, oldest first."""
        found = [status for array in self._arrays for status in array.status]
        return [status for status in found if status.name == f'{self.node}: occupancy']

    @property
    def values(self) -> dict[str, str]:
        """What the latest full report lists."""
        listed = [report.values for report in self.reports if report.values]
        return {entry.key: entry.value for entry in listed[-1]} if listed else {}

    def until_said(
        self, text: str, level: bytes, every: Callable[[], Any] | None = None
    ) -> DiagnosticStatus:
        """Wait for a report from now on that contains `text`, at this level."""
        already, found = len(self.reports), []

        def said() -> bool:
            new = [r for r in self.reports[already:] if r.level == level]
            found[:] = [r for r in new if text in r.message]
            return bool(found)

        try:
            self.graph.until(said, every)
        except AssertionError as error:
            said_instead = [(r.level, r.message) for r in self.reports[already:]]
            raise AssertionError(f'no {text!r} of {level!r} in {said_instead}') from error
        return found[0]

    def until_cloud(self, every: Callable[[], Any]) -> PointCloud2:
        """Wait for a cloud from now on and return it."""
        already = len(self.clouds)
        self.graph.until(lambda: len(self.clouds) > already, every)
        return self.clouds[already]


class Patient(Ears):
    """A node in this process, its camera, and everything it says."""

    def __init__(self, graph: Graph, *remappings: str, **parameters: Any) -> None:
        super().__init__(graph)
        chosen = {**EXTRINSICS, **parameters}
        chosen = {name: value for name, value in chosen.items() if value is not None}
        graph.start(*remappings, **chosen)
        self.camera = Camera(graph)

    @property
    def counted(self) -> Any:
        """The counters of the node."""
        return self.graph.report()

    def settled(self) -> None:
        """Wait until no frame is in flight: each is processed, replaced or dropped."""
        self.graph.until(lambda: self.counted.in_flight == 0)

    def until_well(self, running: bool = True) -> None:
        """Send good frames until one more comes out as voxels and diagnostics say so."""
        sent: list[Any] = []

        def publish() -> None:
            sent.append(self.camera.publish())

        cloud = self.until_cloud(publish)
        assert cloud.width == 2, cloud.width
        if running:
            self.until_said('running', OK, publish)
        # the newest frame is never replaced: once it is out, nothing is under way
        self.graph.until(lambda: self.clouds[-1].header.stamp == sent[-1].header.stamp)
        self.settled()


@contextmanager
def nothing_leaks(patient: Patient) -> Iterator[None]:
    """Begin and end with a good frame, and hold nothing more in the end than in the beginning."""
    patient.until_well()
    before = held()
    yield
    patient.until_well()
    assert_no_more(held(), before)


@dataclass
class NodeProcess:
    """The node as a process, with its output, and what is heard of it."""

    child: Any
    output: Path
    ears: Ears

    @property
    def pid(self) -> int:
        """Its process id."""
        return int(self.child.pid)

    def log(self) -> str:
        """Return what it wrote."""
        return self.output.read_text(errors='replace')


@contextmanager
def node_process(
    graph: Graph, model: Path, folder: Path, *more: str, node: str = '/occ', name: str = 'node'
) -> Iterator[NodeProcess]:
    """Start the node with a model, wait until it is ready, kill it in the end."""
    output = folder / f'{name}.log'
    ears = Ears(graph, node)
    with process([*occ_command(model), *more], output) as child:
        wait_for_line(output, 'ready: model', child)
        yield NodeProcess(child, output, ears)


@contextmanager
def camera_process(folder: Path, rate_hz: float, *more: str, name: str = 'cam') -> Iterator[Any]:
    """Start a camera of its own process; it writes how many frames it has sent."""
    words = [sys.executable, str(CAMERA_SCRIPT), str(rate_hz), *more]
    output = folder / f'{name}.log'
    with process(words, output) as child:
        wait_for_line(output, 'sending', child)
        yield child


def wait_until(condition: Callable[[], Any], what: str, within_s: float = WAIT_S) -> None:
    """Wait for what happens outside of ROS."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f'not within {within_s} s: {what}'
        time.sleep(0.02)
