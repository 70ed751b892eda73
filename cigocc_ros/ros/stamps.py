"""Stamps that cannot be right: noticed and counted, for they spoil every consumer that uses tf.

A frame is never dropped for its stamp: each is predicted alone and keeps the stamp it had.
"""

from __future__ import annotations

ZERO, FUTURE, REPEATED = 'zero', 'in the future', 'repeated'
OUT_OF_ORDER, JUMPED_BACK = 'out of order', 'jumped back'
NANOSECONDS = 1_000_000_000
AHEAD_NS = NANOSECONDS
"""/clock ticks rarely in some simulators, and clocks of two machines differ: less is no fault."""
JUMP_NS = NANOSECONDS
"""Back by more is a bag that starts again or a clock that was set, by less a frame too late."""


def has_latency(stamp_ns: int, now_ns: int) -> bool:
    """Say whether the time since a stamp means anything."""
    return stamp_ns > 0 and stamp_ns <= now_ns + AHEAD_NS


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
        if last_ns is None or stamp_ns > last_ns:
            return ''
        if stamp_ns == last_ns:
            return REPEATED
        return JUMPED_BACK if last_ns - stamp_ns > JUMP_NS else OUT_OF_ORDER
