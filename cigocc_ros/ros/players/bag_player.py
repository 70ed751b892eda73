"""The node `bag_player`: plays rosbag2 bags where `ros2 bag play` is not installed.

Messages are published as the bytes that were recorded, with the recorded QoS and in the recorded
pace. Reads mcap and sqlite3 through the library rosbags.
"""

from __future__ import annotations

import importlib
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rclpy.clock import Clock, ClockType
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.utilities import ok

from cigocc_ros.core.errors import ConfigError, DataFileError
from cigocc_ros.ros.log_forwarding import forward_logging
from cigocc_ros.ros.parameters import declare, parameter
from cigocc_ros.ros.process import run_node
from cigocc_ros.ros.stamps import stamp_from_ns

if TYPE_CHECKING:
    from rosbags.highlevel import AnyReader

logger = logging.getLogger(__name__)
NODE_NAME = 'bag_player'
TICK_S = 0.005
CLOCK_PERIOD_S = 0.01
SETTLE_S = 1.0  # a subscriber learns of us after we learn of it
Message = tuple[str, int, bytes]


@dataclass(frozen=True)
class BagPlayerParameters:
    """How the bag is played."""

    bag: str = parameter('', 'Bag folder with metadata.yaml, mcap or sqlite3')
    rate: float = parameter(1.0, 'Speed, 1 is as recorded', limits=(0.001, 1000.0))
    loop: bool = parameter(False, 'Start again after the last message; stamps are as recorded')
    clock: bool = parameter(True, 'Publish /clock')
    wait_for_subscribers: int = parameter(
        1, 'Start when this many subscribers listen to wait_for_topic', limits=(0, 100)
    )
    wait_for_topic: str = parameter(
        '', 'Topic of the bag whose subscribers count; empty: those of all topics together'
    )
    linger_s: float = parameter(
        1.0, 'How long /clock goes on after the last message, seconds', limits=(0.0, 600.0)
    )


class BagPlayer(Node):  # type: ignore[misc]  # rclpy is not read by mypy
    """Publish message after message, paced by the times of the bag."""

    def __init__(self, **node: Any) -> None:
        """Open the bag and create its topics; raise CigoccError where it cannot be played."""
        super().__init__(NODE_NAME, **node)
        self._stop_forwarding = forward_logging(self)
        self._reader: AnyReader | None = None
        try:
            self._open()
        except BaseException:
            self.destroy_node()
            raise

    def _open(self) -> None:
        self.parameters = declare(self, BagPlayerParameters)
        self._reader = open_bag(self.parameters.bag)
        self._topics = dict(self._advertised(self._reader))
        if not self._topics:
            raise DataFileError(f'{self.parameters.bag}: no topic of an installed message type')
        self._awaited = self._awaited_topics()
        self._clock: Any = self._clock_publisher() if self.parameters.clock else None
        self._messages = self._recorded()
        self._next: Message | None = next(self._messages, None)
        self._start_ns = self._reader.start_time
        self._started_s: float | None = None
        self._settled_s: float | None = None
        self._finished_s: float | None = None
        self._clock_due_s = 0.0
        self.played, self.done = 0, False
        self.create_timer(TICK_S, self._tick, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _advertised(self, reader: AnyReader) -> Iterator[tuple[str, Any]]:
        for connection in reader.connections:
            kind = message_type(connection.msgtype)
            if kind is None:
                logger.warning('%s left out: no %s here', connection.topic, connection.msgtype)
                continue
            offered = getattr(connection.ext, 'offered_qos_profiles', None) or []
            yield connection.topic, self.create_publisher(kind, connection.topic, qos_of(offered))

    def _awaited_topics(self) -> list[Any]:
        """Return the publishers whose subscribers count; raise ConfigError for no such topic."""
        wanted = self.parameters.wait_for_topic
        if not wanted:
            return list(self._topics.values())
        name = self.resolve_topic_name(wanted)
        if name not in self._topics:
            raise ConfigError(
                f'parameter wait_for_topic: expected a topic of {self.parameters.bag}, one of '
                f'{", ".join(sorted(self._topics))}; found {name}'
            )
        return [self._topics[name]]

    def _clock_publisher(self) -> Any:
        from rosgraph_msgs.msg import Clock as ClockMessage

        self._clock_message = ClockMessage
        return self.create_publisher(ClockMessage, '/clock', QoSProfile(depth=1))

    def _recorded(self) -> Iterator[Message]:
        assert self._reader is not None
        for connection, time_ns, raw in self._reader.messages():
            if connection.topic in self._topics:
                yield connection.topic, time_ns, bytes(raw)

    def _tick(self) -> None:
        now_s = time.monotonic()
        if not self._may_start(now_s):
            self._publish_clock(self._start_ns, now_s)
            return
        assert self._started_s is not None
        time_ns = self._start_ns + round((now_s - self._started_s) * self.parameters.rate * 1e9)
        self._publish_clock(time_ns, now_s)
        while self._next is not None and self._next[1] <= time_ns:
            topic, _, raw = self._next
            self._topics[topic].publish(raw)
            self.played += 1
            self._next = next(self._messages, None)
        if self._next is None:
            self._finish(now_s)

    def _may_start(self, now_s: float) -> bool:
        """Wait for subscribers, then a moment: what is sent before both know is lost."""
        if self._started_s is None:
            heard = sum(topic.get_subscription_count() for topic in self._awaited)
            if heard >= self.parameters.wait_for_subscribers and self._settled_s is None:
                self._settled_s = now_s
            if self._settled_s is not None and now_s - self._settled_s >= SETTLE_S:
                self._started_s = now_s
        return self._started_s is not None

    def _publish_clock(self, time_ns: int, now_s: float) -> None:
        if self._clock is not None and now_s >= self._clock_due_s:
            self._clock.publish(self._clock_message(clock=stamp_from_ns(time_ns)))
            self._clock_due_s = now_s + CLOCK_PERIOD_S

    def _finish(self, now_s: float) -> None:
        if self.parameters.loop:
            self._messages = self._recorded()
            self._next, self._started_s = next(self._messages, None), now_s
            return
        if self._finished_s is None:
            self._finished_s = now_s
            logger.info('%d messages played', self.played)
        self.done = now_s - self._finished_s >= self.parameters.linger_s

    def destroy_node(self) -> None:
        """Close the bag, then the node."""
        if self._reader is not None:
            self._reader.close()
        self._stop_forwarding()
        super().destroy_node()


def open_bag(folder: str) -> AnyReader:
    """Open a bag folder; raise ConfigError without one, DataFileError for one that is no bag."""
    from rosbags.highlevel import AnyReader, AnyReaderError

    if not folder:
        raise ConfigError('parameter bag is not set: give a bag folder, e.g. of `cigocc bag`')
    path = Path(folder).expanduser()
    if not (path / 'metadata.yaml').is_file():
        raise DataFileError(f'{path}: expected a bag folder with metadata.yaml')
    try:
        reader = AnyReader([path])
        reader.open()
    except (AnyReaderError, ValueError, OSError) as error:
        raise DataFileError(f'{path}: cannot be read as a bag: {error}') from error
    return reader


def message_type(name: str) -> Any | None:
    """Return the class of `package/msg/Type`, None where its package is not installed."""
    package, _, kind = name.split('/')
    try:
        return getattr(importlib.import_module(f'{package}.msg'), kind)
    except (ImportError, AttributeError):
        return None


def qos_of(offered: list[Any]) -> QoSProfile:
    """Return the recorded QoS of a topic, reliable of depth 10 where none was recorded."""
    if not offered:
        return QoSProfile(depth=10)
    recorded = offered[0]
    return QoSProfile(
        depth=max(int(recorded.depth), 1),
        history=HistoryPolicy.KEEP_LAST,
        reliability=ReliabilityPolicy[recorded.reliability.name],
        durability=DurabilityPolicy[recorded.durability.name],
    )


def _spin(player: BagPlayer, executor: SingleThreadedExecutor) -> int:
    while ok() and not player.done:
        executor.spin_once()
    return 0


def main(args: list[str] | None = None) -> int:
    """Play until the end, SIGINT or SIGTERM; return 1 where the bag cannot be played."""
    return run_node(NODE_NAME, args, BagPlayer, _spin)
