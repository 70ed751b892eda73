"""Two bags at the same time, as docs/bags.md says: a node, a player and a domain for each.

One of them has JPEG images.
"""

import importlib.util
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml

pytest.importorskip('rclpy')
pytest.importorskip('rosbags')

from fixtures_processes import REPOSITORY, process, wait_for_line
from fixtures_ros import EXTRINSICS, WAIT_S, Graph, domain_id
from fixtures_sequence import build_sequence
from fixtures_tiny_model import build_tiny_model_dir
from launch_standin import evaluate
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import PointCloud2

from cigocc_ros.data import kitti_files
from cigocc_ros.data.bag import BagContent, write_bag
from cigocc_ros.data.kitti_sequence import KittiSequence
from cigocc_ros.ros.stamps import stamp_to_ns

REPLAY = REPOSITORY / 'launch' / 'kitti_replay.launch.py'
FIRST_S = {'00': 1.0, '08': 100.0}
TRANSPORT = {'00': 'raw', '08': 'compressed'}
FRAMES = 3
GROUND_TRUTH_FRAME = 'ground_truth_view'
RATE = '0.04'  # the last frame after 5 s: two processes may take 3 s to discover each other


@dataclass
class Replayed:
    """One of the two: its commands, and what an observer in its domain hears."""

    name: str
    commands: dict[str, list[str]]
    environment: dict[str, str]
    graph: Graph
    logs: Path

    def __post_init__(self) -> None:
        deep = QoSProfile(depth=50)
        self.clouds = self.graph.hear(PointCloud2, 'occ/occupancy', deep)
        self.truths = self.graph.hear(PointCloud2, '/kitti/ground_truth', deep)
        self.clocks = self.graph.hear(Clock, '/clock', QoSProfile(depth=1000))

    def start(self, stack: ExitStack, program: str):
        words = [sys.executable, *self.commands[program]]
        log = self.logs / f'{self.name}_{program}.log'
        return stack.enter_context(process(words, log, **self.environment)), log

    def stamps_s(self, heard) -> list[float]:
        return [round(1e-9 * stamp_to_ns(message.header.stamp), 3) for message in heard]

    @property
    def recorded_s(self) -> list[float]:
        return [round(FIRST_S[self.name] + 0.1 * frame, 3) for frame in range(FRAMES)]

    def heard(self) -> tuple[list[float], list[float], int]:
        return self.stamps_s(self.clouds), self.stamps_s(self.truths), len(self.clocks)

    def has_ended(self) -> bool:
        """Whether the last frame came out; on a busy machine it may have replaced others."""
        return all(self.recorded_s[-1] in stamps for stamps in self.heard()[:2])


@pytest.fixture
def both(tmp_path, prefix, make_graph, monkeypatch) -> list[Replayed]:
    real = importlib.util.find_spec
    absent = lambda name, *rest: None if name == 'ros2bag' else real(name, *rest)  # noqa: E731
    monkeypatch.setattr(importlib.util, 'find_spec', absent)
    model, pose = build_tiny_model_dir(tmp_path / 'model'), tmp_path / 'pose.yaml'
    pose.write_text(yaml.safe_dump({'/**': {'ros__parameters': EXTRINSICS}}))
    given = {'model': str(model), 'extrinsics_file': str(pose), 'rviz': 'false', 'rate': RATE}
    made = []
    for number, name in enumerate(FIRST_S):
        bag = recorded(tmp_path, name)
        mine = {'bag': str(bag), 'image_transport': TRANSPORT[name]}
        context = evaluate(REPLAY, prefix, given | mine)
        domain = 1 + (domain_id() + number) % 101
        environment = context.environment | {'ROS_DOMAIN_ID': str(domain)}
        graph = make_graph(domain=domain)
        made.append(Replayed(name, context.commands, environment, graph, tmp_path))
    return made


def recorded(folder: Path, name: str) -> Path:
    sequence = build_sequence(folder / 'sequences' / name, FRAMES)
    kitti_files.write_times(sequence / 'times.txt', FIRST_S[name] + 0.1 * np.arange(FRAMES))
    content = BagContent(
        ground_truth=True,
        ground_truth_frame=GROUND_TRUTH_FRAME,
        compressed=TRANSPORT[name] == 'compressed',
    )
    write_bag(KittiSequence(sequence), folder / f'{name}_bag', content=content)
    return folder / f'{name}_bag'


def spin_until(both: list[Replayed], condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, [one.heard() for one in both]
        for replayed in both:
            replayed.graph.executor.spin_once(timeout_sec=0.005)


def test_two_bags_at_once_do_not_hear_each_other(both):
    with ExitStack() as stack:
        for replayed in both:
            node, log = replayed.start(stack, 'occ_node')
            wait_for_line(log, 'ready: model handmade', node)
        spin_until(both, lambda: all(one.graph.offered('occ/occupancy') for one in both))
        players = [replayed.start(stack, 'bag_player') for replayed in both]
        spin_until(both, lambda: all(player.poll() is not None for player, _ in players))
        spin_until(both, lambda: all(replayed.has_ended() for replayed in both))
        assert [player.returncode for player, _ in players] == [0, 0]
    for replayed in both:
        for heard in (replayed.clouds, replayed.truths):
            stamps = replayed.stamps_s(heard)
            assert stamps == sorted(set(stamps)) and set(stamps) <= set(replayed.recorded_s)
        assert {truth.header.frame_id for truth in replayed.truths} == {GROUND_TRUTH_FRAME}
        seconds = {clock.clock.sec for clock in replayed.clocks}
        assert seconds and abs(min(seconds) - FIRST_S[replayed.name]) <= 1
        assert max(seconds) - min(seconds) <= 2
