"""Stamps and clocks: ROS time in nanoseconds, and stamps that cannot be right.

A frame is never dropped for its stamp: each is predicted alone and keeps the stamp it had. A wrong
one is noticed and counted, for it spoils every consumer that uses tf.
"""

from __future__ import annotations

from typing import Any

from builtin_interfaces.msg import Time

from cigocc_ros.core.frames import NANOSECONDS

ZERO, FUTURE, PAST, REPEATED = 'zero', 'in the future', 'long past', 'repeated'
OUT_OF_ORDER, JUMPED_BACK = 'out of order', 'jumped back'

AHEAD_NS = NANOSECONDS
"""/clock ticks rarely in some simulators, and clocks of two machines differ: less is no fault."""
BEHIND_NS = 10 * NANOSECONDS
"""No camera takes so long: the clocks of two machines differ, or a bag plays without /clock."""
JUMP_NS = NANOSECONDS
"""Back by more is a bag that starts again or a clock that was set, by less a frame too late."""


def has_latency(stamp_ns: int, now_ns: int) -> bool:
    """Say whether the time since a stamp means anything."""
    return stamp_ns > 0 and now_ns - BEHIND_NS <= stamp_ns <= now_ns + AHEAD_NS


class StampWatch:
    """Compare each stamp with the clock and with the one before; used from one thread."""

    def __init__(self) -> None:
        """Start before the first frame."""
        self._last_ns: int | None = None

    def fault(self, stamp_ns: int, now_ns: int) -> str:
        """Return what is wrong with the stamp of a frame that arrived; empty where nothing is."""
        if stamp_ns <= 0:
            return ZERO
        if stamp_ns > now_ns + AHEAD_NS:
            return FUTURE
        last_ns, self._last_ns = self._last_ns, stamp_ns
        if last_ns is not None and stamp_ns == last_ns:
            return REPEATED
        if last_ns is not None and stamp_ns < last_ns:
            return JUMPED_BACK if last_ns - stamp_ns > JUMP_NS else OUT_OF_ORDER
        return PAST if stamp_ns < now_ns - BEHIND_NS else ''


def stamp_to_ns(stamp: Time) -> int:
    """Return the stamp in nanoseconds."""
    return int(stamp.sec) * NANOSECONDS + int(stamp.nanosec)


def stamp_from_ns(stamp_ns: int) -> Time:
    """Return the builtin_interfaces/Time of a stamp in nanoseconds."""
    sec, nanosec = divmod(int(stamp_ns), NANOSECONDS)
    return Time(sec=sec, nanosec=nanosec)


def steady_clock() -> Any:
    """Return a clock that runs even where /clock stands still, jumps or never comes."""
    from rclpy.clock import Clock, ClockType

    return Clock(clock_type=ClockType.STEADY_TIME)
