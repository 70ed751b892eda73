"""Replay a sequence through the node `occ` in processes of their own, and collect what it says.

Node and player run by the command lines of launch/kitti_replay.launch.py; a test compares them.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cigocc_ros.core.errors import EngineError
from cigocc_ros.core.frames import LIDAR_FRAME
from cigocc_ros.core.installed import config_dir
from cigocc_ros.data.kitti_sequence import KittiSequence
from cigocc_ros.data.recording import TOPICS
from cigocc_ros.replay.outcome import Collected, CollectedCloud, read_collected
from cigocc_ros.replay.processes import Processes, node_command, ros_environment

OCC, PLAYER, COLLECTOR = 'occ_node', 'kitti_player', 'collector'
# what the node does not hear
LIDAR_TOPICS = {name: topic.in_bags for name, topic in TOPICS.items() if topic.kind == 'cloud'}
CAMERA_TOPICS = {name: topic.in_bags for name, topic in TOPICS.items() if name not in LIDAR_TOPICS}
READY_WITHIN_S, SILENT_FOR_S, POLL_S = 60.0, 30.0, 0.1
READY_LINE = 'ready: model'
LISTENERS = 2  # node and collector must hear the first image
PACE_FRAMES, PACE_RATE = 2, 0.2
PACE_RESERVE, PACE_RESERVE_S = 1.3, 0.05  # longer than the slower of the frames measured
USER_PARAMETERS = (
    "/**:\n  ros__parameters:\n    prior:\n      source: 'stereo'\n      wait_s: 1.0\n"
)
REPORT_WITHIN_S = 20.0  # the node reports once a second, on a busy machine some seconds late


@dataclass(frozen=True)
class ReplaySettings:
    """What to replay. folder: where logs and results go; frames: the first ones are played."""

    sequence: Path
    folder: Path
    frames: int
    model: str
    backend: str
    store_every: int = 1


@dataclass(frozen=True)
class Replayed:
    """What came over DDS.

    clouds: those of the replay proper, `sent` images; the `pace_sent` images before it measured
    how fast the node is, and count in its diagnostics. processing_ms: in the node, of the replay
    proper. rate: its speed, 1 as recorded.
    """

    collected: Collected
    clouds: list[CollectedCloud]
    processing_ms: list[float]
    sent: int
    pace_sent: int
    rate: float


class Replay:
    """One replay; `say` gets a line whenever something begins."""

    def __init__(self, settings: ReplaySettings, say: Callable[[str], None]) -> None:
        """Open the sequence; raise DataFileError, CalibrationError where it is not one."""
        self._settings, self._say = settings, say
        sequence = KittiSequence(settings.sequence)
        stamps = [sequence.stamp_ns(frame) for frame in sequence.frame_ids]
        self.sent = min(settings.frames, len(stamps))
        self._period_s = float(np.median(np.diff(stamps))) * 1e-9 if len(stamps) > 1 else 0.1
        self._has_right = sequence.has_right
        self._events = settings.folder / 'collected'

    def run(self, progress: Callable[[int, int], None]) -> Replayed:
        """Return what was collected; `progress` gets voxel clouds arrived and images to send.

        Raises EngineError where a process fails or nothing arrives. No process is left behind.
        """
        logs = self._settings.folder / 'logs'
        with Processes(logs, ros_environment(log_dir=logs / 'ros')) as processes:
            self._start(processes)
            rate, ignored = self._measure_pace(processes)
            self._say(f'replaying {self.sent} frames at {rate:.2g} x the recorded speed')
            self._play(processes, self.sent, rate, ignored, progress)
            self._await_report(processes)
            for name in (COLLECTOR, OCC):
                processes.check(name)
                processes.stop(name)
        collected = read_collected(self._events)
        clouds = collected.clouds[ignored:]
        if not clouds:
            raise EngineError(f'no voxels arrived; see {self._settings.folder / "logs"}')
        processing_ms = collected.processing_time_ms[ignored:]
        pace_sent = min(PACE_FRAMES, self.sent)
        return Replayed(collected, clouds, processing_ms, self.sent, pace_sent, rate)

    def _start(self, processes: Processes) -> None:
        """Start node and collector, wait until the model is loaded."""
        settings, started_s = self._settings, time.monotonic()
        extrinsics = settings.folder / 'extrinsics.yaml'
        self._say('camera pose from calib.txt to the parameter file of the node')
        processes.start(PLAYER, player_command(settings.sequence, write_extrinsics=extrinsics))
        self._until(lambda: processes.ended(PLAYER), processes, what='the camera pose')
        self._say(f'starting the node with model {settings.model}')
        command = occ_command(settings.model, settings.backend, extrinsics, self._user_file())
        processes.start(OCC, command)
        processes.start(COLLECTOR, collector_command(self._events, settings.store_every))
        self._until(
            lambda: self._now().class_info is not None, processes, OCC, COLLECTOR, what='the node'
        )
        self._say(f'node ready after {time.monotonic() - started_s:.1f} s')

    def _user_file(self) -> Path:
        """Write the params_file of the node: stereo by name, so that the first image waits too.

        And for long: every right image is played, however busy the machine is.
        """
        if not self._has_right:
            return config_dir() / 'empty.param.yaml'
        path = self._settings.folder / 'user.param.yaml'
        path.write_text(USER_PARAMETERS)
        return path

    def _measure_pace(self, processes: Processes) -> tuple[float, int]:
        """Return the rate at which the node can follow, and how many clouds that took."""
        count = min(PACE_FRAMES, self.sent)
        self._say(f'measuring the pace of the node with {count} frames')
        self._play(processes, count, PACE_RATE, 0, lambda done, total: None)
        now = self._now()
        if not now.clouds or not now.processing_time_ms:
            raise EngineError(
                f'the node published nothing for {count} images: {now.diagnostics_message or "?"}'
            )
        slowest_s = 1e-3 * max(now.processing_time_ms)
        period_s = PACE_RESERVE * slowest_s + PACE_RESERVE_S
        return min(1.0, self._period_s / period_s), len(now.clouds)

    def _play(
        self,
        processes: Processes,
        count: int,
        rate: float,
        already: int,
        progress: Callable[[int, int], None],
    ) -> None:
        """Play the first frames and wait until their clouds are there, or no more come."""
        options = {'rate': rate, 'loop': False, 'lidar_frame': LIDAR_FRAME, 'end': count}
        options['wait_for_subscribers'] = LISTENERS
        processes.start(PLAYER, player_command(self._settings.sequence, **options))
        arrived, last_s, over_s = 0, time.monotonic(), None
        while arrived < count:
            processes.check(OCC, COLLECTOR)
            over_s = over_s or (time.monotonic() if processes.ended(PLAYER) else None)
            now = len(self._now().clouds) - already
            if now > arrived:
                arrived, last_s = now, time.monotonic()
                progress(arrived, count)
            if time.monotonic() - last_s > SILENT_FOR_S:
                break
            if over_s and time.monotonic() - max(over_s, last_s) > self._patience_s():
                break
            time.sleep(POLL_S)
        self._until(lambda: processes.ended(PLAYER), processes, OCC, what='the player')

    def _patience_s(self) -> float:
        """Return how long after the last image a cloud may still come."""
        times_ms = self._now().processing_time_ms
        return 2.0 + 2e-3 * max(times_ms) if times_ms else SILENT_FOR_S

    def _await_report(self, processes: Processes) -> None:
        """Wait for diagnostics that count every cloud and leave no frame in flight."""
        deadline = time.monotonic() + REPORT_WITHIN_S
        self._until(
            lambda: is_settled(self._now()) or time.monotonic() > deadline, processes, OCC, what=''
        )

    def _now(self) -> Collected:
        return read_collected(self._events)

    def _until(
        self, done: Callable[[], bool], processes: Processes, *alive: str, what: str
    ) -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        while not done():
            processes.check(*alive)
            if time.monotonic() > deadline:
                raise EngineError(
                    f'waited {READY_WITHIN_S:.0f} s for {what}; {self._unheard(processes)}see '
                    f'{self._settings.folder}/logs'
                )
            time.sleep(POLL_S)

    @staticmethod
    def _unheard(processes: Processes) -> str:
        """Say that the middleware, not the node, is to blame where that has long been ready."""
        log = processes.log(OCC)
        ready = log.is_file() and READY_LINE in log.read_text(errors='replace')
        return f'{OCC} is ready but not heard: `cigocc doctor` looks at DDS; ' if ready else ''


def is_settled(now: Collected) -> bool:
    """Say whether the last report knows the fate of every frame, and counts every cloud heard."""
    listed = now.diagnostics
    processed = int(listed.get('processed', '0'))
    return listed.get('in flight') == '0' and processed >= len(now.clouds)


def occ_command(model: str, backend: str, extrinsics: Path, user: Path) -> list[str]:
    """Return the command of the node as launch/kitti_replay.launch.py starts it.

    extrinsics, user: the launch arguments extrinsics_file and params_file.
    """
    chosen: dict[str, object] = {
        'model': model,
        'backend': backend,
        'device': 'auto',
        'threads': 0,
        'output_frame': LIDAR_FRAME,
        'image_transport': 'raw',
        'image_reliability': 'auto',
        'semantic_classes': '',
        'save_dir': '',
        'use_sim_time': True,
    }
    parameters: list[Mapping[str, object] | Path] = [
        config_dir() / 'occ.param.yaml',
        chosen,
        extrinsics,
        user,
    ]
    images = [name for name, topic in TOPICS.items() if topic.kind == 'image']
    compressed = {f'{name}/compressed': f'{CAMERA_TOPICS[name]}/compressed' for name in images}
    return node_command(OCC, 'occ', parameters, CAMERA_TOPICS | compressed)


def player_command(sequence: Path, **options: object) -> list[str]:
    """Return the command of the player as launch/kitti_replay.launch.py starts it."""
    parameters = {'sequence': sequence.resolve(), **options}
    return node_command(PLAYER, PLAYER, [parameters], {**CAMERA_TOPICS, **LIDAR_TOPICS})


def collector_command(folder: Path, store_every: int = 1) -> list[str]:
    """Return the command of the collector; the node publishes below its name, occ."""
    words = [sys.executable, '-m', 'cigocc_ros.replay.collector', str(folder)]
    words += ['--store-every', str(store_every), '--ros-args', '-p', 'use_sim_time:=true']
    topics = {name: CAMERA_TOPICS[name] for name in ('image', 'camera_info')}
    topics['ground_truth'] = LIDAR_TOPICS['ground_truth']
    for old, new in topics.items():
        words += ['-r', f'{old}:={new}']
    return words
