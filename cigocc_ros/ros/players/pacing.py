"""When what is played, and what time it is meanwhile: the life that all players share.

A player waits for those who listen, then a second more, plays, and stays a while.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from rclpy.utilities import ok

from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.frames import NANOSECONDS
from cigocc_ros.ros.log_forwarding import Throttle
from cigocc_ros.ros.stamps import stamp_from_ns, steady_clock

logger = logging.getLogger(__name__)
TICK_S = 0.005
CLOCK_PERIOD_S = 0.01
SETTLE_S = 1.0  # a subscriber learns of us after we learn of it, late on a busy machine
ACK_WAIT = Duration(seconds=2)
LONE_FRAME_PERIOD_NS = 100_000_000
CLOCK_TOPIC = '/clock'


@dataclass(frozen=True)
class Pace:
    """How fast, for how many, and how long it stays.

    first_ns: the recording's time at the start. heard: how many listen now to what is awaited.
    acked: publishers whose last message must have arrived before the end.
    """

    first_ns: int
    rate: float
    subscribers: int
    linger_s: float
    heard: Callable[[], int]
    acked: Sequence[Publisher] = ()


class Pacer:
    """Tick: wait, settle, play, tell the time, linger; `done` says that the node may end."""

    def __init__(
        self,
        node: Node,
        pace: Pace,
        play: Callable[[int], bool],
        tell: Callable[[int], None] | None,
    ) -> None:
        """Begin to tick once the node spins.

        `play` gets the recording's time, publishes what is due and says whether more is to come.
        `tell` gets the same time, a hundred times a second; None where nobody tells it.
        """
        self._pace, self._play, self._tell = pace, play, tell
        self._throttle = Throttle()
        self._origin_ns = pace.first_ns
        self._matched_s: float | None = None
        self._started_s: float | None = None
        self._finished_s: float | None = None
        self._told_s = 0.0
        self.done = False
        node.create_timer(TICK_S, self._tick, clock=steady_clock())

    def restart(self) -> None:
        """Begin again at the start of the recording, now."""
        self._started_s, self._origin_ns = time.monotonic(), self._pace.first_ns

    def skip_to(self, time_ns: int) -> None:
        """Leave out what of the recording's time is before `time_ns`."""
        self._started_s, self._origin_ns = time.monotonic(), time_ns

    def _tick(self) -> None:
        now_s = time.monotonic()
        if self._started_s is None:
            if not self._settled(now_s):
                self._tell_time(self._origin_ns, now_s)
                return
            self._started_s = now_s
        elapsed_s = now_s - self._started_s
        time_ns = self._origin_ns + round(elapsed_s * self._pace.rate * NANOSECONDS)
        self._tell_time(time_ns, now_s)
        if self._finished_s is None and not self._play(time_ns):
            self._finished_s = now_s
            for publisher in self._pace.acked:
                publisher.wait_for_all_acked(ACK_WAIT)
        if self._finished_s is not None:
            self.done = now_s - self._finished_s >= self._pace.linger_s

    def _settled(self, now_s: float) -> bool:
        """Say whether enough have listened for a moment; one that leaves starts it anew."""
        if self._pace.heard() < self._pace.subscribers:
            self._matched_s = None
            if self._throttle('waiting') is not None:
                logger.info('waiting for %d subscribers', self._pace.subscribers)
            return False
        if self._matched_s is None:
            self._matched_s = now_s
        return now_s - self._matched_s >= SETTLE_S

    def _tell_time(self, time_ns: int, now_s: float) -> None:
        if self._tell is not None and now_s >= self._told_s + CLOCK_PERIOD_S:
            self._tell(time_ns)
            self._told_s = now_s


def clock_teller(node: Node) -> Callable[[int], None]:
    """Return what publishes a time in nanoseconds on /clock."""
    from rosgraph_msgs.msg import Clock

    publisher: Any = node.create_publisher(Clock, CLOCK_TOPIC, QoSProfile(depth=1))
    return lambda time_ns: publisher.publish(Clock(clock=stamp_from_ns(time_ns)))


def spin_until_done(player: Any, executor: SingleThreadedExecutor) -> int:
    """Spin a node that has `done` and `exit_code`; return the latter."""
    while ok() and not player.done:
        executor.spin_once()
    return int(player.exit_code)


class Playback:
    """The stamps of a recording, repeated for ever if looped; time never runs backwards."""

    def __init__(self, stamps_ns: Sequence[int], loop: bool) -> None:
        """Take increasing stamps."""
        if not stamps_ns:
            raise DataFileError('the sequence has no frame between start and end')
        if any(later <= earlier for earlier, later in zip(stamps_ns, stamps_ns[1:], strict=False)):
            raise DataFileError('the stamps of the sequence (times.txt) must increase')
        self._loop = loop
        self._first_ns = stamps_ns[0]
        self._offsets_ns = [stamp - stamps_ns[0] for stamp in stamps_ns]
        gaps = max(len(stamps_ns) - 1, 1)
        period_ns = self._offsets_ns[-1] // gaps or LONE_FRAME_PERIOD_NS
        self._round_ns = self._offsets_ns[-1] + period_ns
        self.played = 0

    @property
    def first_ns(self) -> int:
        """Stamp of the first frame."""
        return self._first_ns

    @property
    def finished(self) -> bool:
        """Whether every frame was played."""
        return not self._loop and self.played >= len(self._offsets_ns)

    @property
    def index(self) -> int:
        """Index of the next frame among the stamps."""
        return self.played % len(self._offsets_ns)

    @property
    def stamp_ns(self) -> int:
        """Stamp of the next frame."""
        rounds = self.played // len(self._offsets_ns)
        return self._first_ns + rounds * self._round_ns + self._offsets_ns[self.index]

    def due(self, time_ns: int) -> bool:
        """Say whether the next frame is to be played at this time of the recording."""
        return not self.finished and self.stamp_ns <= time_ns
