"""The node `bag_player`: plays rosbag2 bags where `ros2 bag play` is not installed.

Messages are published as the bytes that were recorded, with the recorded QoS and in the recorded
pace. One clock is told: that of the bag where it recorded one, for its stamps are of that clock.
"""

from __future__ import annotations

import importlib
import logging
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

from cigocc_ros.core.errors import ConfigError, DataFileError
from cigocc_ros.core.yaml_json import parse_yaml
from cigocc_ros.data.bag_files import Channel, Recorded
from cigocc_ros.data.recorded_bag import RecordedBag
from cigocc_ros.ros.log_forwarding import forward_logging
from cigocc_ros.ros.parameters import declare, usage
from cigocc_ros.ros.players.pacing import (
    CLOCK_TOPIC,
    Pace,
    Pacer,
    clock_teller,
    spin_until_done,
)
from cigocc_ros.ros.players.player_parameters import BagPlayerParameters
from cigocc_ros.ros.process import run_node, wants_help

logger = logging.getLogger(__name__)
NODE_NAME = 'bag_player'
USAGE = """\
Play a rosbag2 bag on its topics.

    ros2 run cigocc_ros bag_player --ros-args -p bag:=FOLDER [-p NAME:=VALUE ...]

Parameters, with their defaults:"""
CLOCK_KIND = 'rosgraph_msgs/msg/Clock'
LEAST_DEPTH = 10  # what `ros2 bag play` offers, rosbag2_storage/qos.cpp
LONGEST_PAUSE_NS = 3_600_000_000_000
"""Longer ones are clocks that were set while the bag was recorded: they are not waited for."""
MESSAGE_KIND = re.compile(r'[A-Za-z]\w*/msg/[A-Za-z]\w*')
# the numbers of rmw/types.h, the words since metadata version 9
RELIABILITY = {
    **dict.fromkeys((1, 'reliable'), ReliabilityPolicy.RELIABLE),
    **dict.fromkeys((2, 'best_effort'), ReliabilityPolicy.BEST_EFFORT),
}
DURABILITY = {
    **dict.fromkeys((1, 'transient_local'), DurabilityPolicy.TRANSIENT_LOCAL),
    **dict.fromkeys((2, 'volatile'), DurabilityPolicy.VOLATILE),
}


class BagPlayer(Node):  # type: ignore[misc]  # rclpy is not read by mypy
    """Publish message after message, paced by the times of the bag."""

    def __init__(self, **node: Any) -> None:
        """Open the bag and create its topics; raise CigoccError where it cannot be played."""
        super().__init__(NODE_NAME, **node)
        self._stop_forwarding = forward_logging(self)
        self._bag: RecordedBag | None = None
        try:
            self.parameters = declare(self, BagPlayerParameters)
            self._bag = open_bag(self.parameters.bag)
            self._open(self._bag)
        except BaseException:
            self.destroy_node()
            raise

    def _open(self, bag: RecordedBag) -> None:
        self._said: list[str] = []
        self._say_problems(bag)
        self._left_out: dict[str, int] = {}
        self._topics: dict[Channel, Publisher] = dict(self._advertised(bag))
        if not self._topics:
            raise DataFileError(f'{bag.path}: no topic that can be played')
        self._promised = sum(bag.channels[channel] for channel in self._topics)
        self._played: Counter[Channel] = Counter()
        self._messages = bag.messages(self._topics)
        self._next: Recorded | None = next(self._messages, None)
        self._last_ns = 0 if self._next is None else self._next.time_ns
        awaited = self._awaited_topics()
        pace = Pace(
            self._last_ns,
            self.parameters.rate,
            self.parameters.wait_for_subscribers,
            self.parameters.linger_s,
            heard=lambda: sum(topic.get_subscription_count() for topic in awaited),
            acked=awaited,
        )
        self._pacer = Pacer(self, pace, self._play, self._teller(bag))

    @property
    def done(self) -> bool:
        """Whether the bag is over."""
        return self._pacer.done

    @property
    def exit_code(self) -> int:
        """1 where less was played than the bag should hold, else 0."""
        if self._bag is None or not self.done:
            return 0
        return int(self._is_short(self._bag))

    def _advertised(self, bag: RecordedBag) -> Iterator[tuple[Channel, Publisher]]:
        for channel, count in sorted(bag.channels.items(), key=lambda item: item[0].topic):
            reason = self._refusal(channel)
            if not reason:
                try:
                    qos = qos_of(channel)
                    made = self.create_publisher(message_type(channel.kind), channel.topic, qos)
                    yield channel, made
                    continue
                except Exception as error:  # a name or a type that ROS does not take, one topic
                    reason = str(error).splitlines()[0]
            self._left_out[channel.topic] = self._left_out.get(channel.topic, 0) + count
            logger.warning('%s left out: %s', channel.topic, reason)

    def _refusal(self, channel: Channel) -> str:
        """Say why a channel cannot be played; empty where it can."""
        if channel.serialization != 'cdr':
            return f'expected messages as cdr, found {channel.serialization}'
        if not MESSAGE_KIND.fullmatch(channel.kind):
            return f'{channel.kind or "no type"} is no message (services and actions stay out)'
        if message_type(channel.kind) is None:
            return f'no {channel.kind} here: install its package'
        if self._is_clock(channel) and not self.parameters.clock:
            return 'clock is false'
        return ''

    @staticmethod
    def _is_clock(channel: Channel) -> bool:
        return channel.kind == CLOCK_KIND and f'/{channel.topic.lstrip("/")}' == CLOCK_TOPIC

    def _awaited_topics(self) -> list[Publisher]:
        """Return the publishers whose subscribers count; raise ConfigError for no such topic."""
        wanted = self.parameters.wait_for_topic
        if not wanted:
            return list(self._topics.values())
        name = self.resolve_topic_name(wanted)
        found = [topic for topic in self._topics.values() if topic.topic_name == name]
        if not found:
            known = sorted({topic.topic_name for topic in self._topics.values()})
            raise ConfigError(
                f'parameter wait_for_topic: expected a topic of {self.parameters.bag}, one of '
                f'{", ".join(known)}; found {name}'
            )
        return found

    def _teller(self, bag: RecordedBag) -> Any:
        """Return what tells the time: nobody, our clock, or the clock of the bag."""
        if not self.parameters.clock:
            return None
        recorded = [channel for channel in self._topics if self._is_clock(channel)]
        first = next(bag.messages(recorded), None) if recorded else None
        if first is None:
            return clock_teller(self)
        logger.info('%s is that of the bag', CLOCK_TOPIC)
        self._clock_now, publisher = first.data, self._topics[first.channel]
        return lambda _: publisher.publish(self._clock_now)

    def _play(self, time_ns: int) -> bool:
        """Publish what is due; return whether more is to come."""
        while self._next is not None and self._next.time_ns <= time_ns:
            self._publish(self._next)
            self._next = next(self._messages, None)
        if self._next is not None:
            self._skip_pause(self._next.time_ns)
            return True
        return self._at_the_end()

    def _publish(self, message: Recorded) -> None:
        self._topics[message.channel].publish(message.data)
        self._played[message.channel] += 1
        self._last_ns = message.time_ns
        if self._is_clock(message.channel):
            self._clock_now = message.data

    def _skip_pause(self, next_ns: int) -> None:
        pause_ns = next_ns - self._last_ns
        if pause_ns > LONGEST_PAUSE_NS and self._last_ns < next_ns:
            logger.warning('no message for %.0f s: not waited for', 1e-9 * pause_ns)
            self._last_ns = next_ns
            self._pacer.skip_to(next_ns)

    def _at_the_end(self) -> bool:
        """Begin again, or report; return whether more is to come."""
        bag = self._bag
        if bag is None:
            return False
        self._say_problems(bag)
        if self.parameters.loop and self._played:
            self._messages = bag.messages(self._topics)
            self._next = next(self._messages, None)
            self._pacer.restart()
            return True
        self._report(bag)
        return False

    def _report(self, bag: RecordedBag) -> None:
        played = sum(self._played.values())
        left = ', '.join(f'{topic} ({count})' for topic, count in self._left_out.items())
        logger.info(
            '%d messages played on %d topics; left out: %s',
            played,
            len(self._played),
            left or 'none',
        )
        if self._is_short(bag):
            expected = self._expected(bag)
            logger.error('the bag should hold %d messages for these topics', expected)

    def _expected(self, bag: RecordedBag) -> int:
        """Return how many messages there should be: by its files, or by metadata.yaml."""
        promised = 0 if bag.promised is None else bag.promised
        return max(self._promised, promised - sum(self._left_out.values()))

    def _is_short(self, bag: RecordedBag) -> bool:
        played = sum(self._played.values())
        return bag.is_broken or not played or played < self._expected(bag)

    def _say_problems(self, bag: RecordedBag) -> None:
        for problem in bag.problems:
            if problem not in self._said:
                logger.warning('%s', problem)
                self._said.append(problem)

    def destroy_node(self) -> None:
        """Close the bag, then the node."""
        if self._bag is not None:
            self._bag.close()
        self._stop_forwarding()
        super().destroy_node()


def open_bag(bag: str) -> RecordedBag:
    """Open a bag; raise ConfigError without one, DataFileError for one that is no bag."""
    if not bag:
        raise ConfigError('parameter bag is not set: give a bag folder, e.g. of `cigocc bag`')
    return RecordedBag.open(Path(bag))


def message_type(name: str) -> Any | None:
    """Return the class of `package/msg/Type`, None where its package is not installed."""
    package, _, kind = name.split('/')
    try:
        return getattr(importlib.import_module(f'{package}.msg'), kind)
    except (ImportError, AttributeError):
        return None


def qos_of(channel: Channel) -> QoSProfile:
    """Return the recorded QoS of a topic; reliable and volatile where publishers differed.

    Latched topics keep what every publisher of them kept.
    """
    offers = parse_yaml(channel.qos, channel.topic) or []
    reliability = {RELIABILITY.get(offer.get('reliability')) for offer in offers}
    durability = {DURABILITY.get(offer.get('durability')) for offer in offers}
    depth = sum(max(int(offer.get('depth', 0)), 1) for offer in offers)
    return QoSProfile(
        depth=min(max(depth, LEAST_DEPTH), 1000),
        history=HistoryPolicy.KEEP_LAST,
        reliability=_one(reliability) or ReliabilityPolicy.RELIABLE,
        durability=_one(durability) or DurabilityPolicy.VOLATILE,
    )


def _one(found: set[Any]) -> Any | None:
    return found.pop() if len(found) == 1 else None


def main(args: list[str] | None = None) -> int:
    """Play until the end, SIGINT or SIGTERM; return 1 where less was played than there is."""
    if wants_help(args):
        sys.stdout.write(usage(BagPlayerParameters, USAGE) + '\n')
        return 0
    return run_node(NODE_NAME, args, BagPlayer, spin_until_done)
