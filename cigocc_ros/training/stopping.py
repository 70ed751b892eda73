"""SIGTERM and SIGINT end a run with a last checkpoint; a second one ends it at once."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)
SAME_SIGNAL_S = 1.0
"""A terminal and a parent process tell of one Ctrl-C each: within this time it is the same."""
SIGNAL_EXIT = 128
"""Added to the number of a signal, the exit status of what it ended (POSIX shells)."""


class StopSignals:
    """Remembers that this process was asked to end; a context that gives the handlers back.

    What ignores a signal, as `nohup` and shells in the background make processes do, goes on doing
    so. Outside the main thread Python cannot handle signals, and nothing is changed.
    """

    def __init__(self) -> None:
        """Install nothing yet."""
        self.received: signal.Signals | None = None
        self._since = 0.0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        """Take the signals."""
        if threading.current_thread() is threading.main_thread():
            taken = [one for one in SIGNALS if signal.getsignal(one) is not signal.SIG_IGN]
            self._before = {one: signal.signal(one, self._receive) for one in taken}
        return self

    def __exit__(self, *_: object) -> None:
        """Give them back."""
        for one, handler in self._before.items():
            signal.signal(one, handler)
        self._before = {}

    def _receive(self, number: int, _: FrameType | None) -> None:
        now = time.monotonic()
        if self.received is not None and now - self._since > SAME_SIGNAL_S:
            self.__exit__()
            signal.raise_signal(number)
        elif self.received is None:
            self.received, self._since = signal.Signals(number), now
            logger.warning(
                '%s: the run ends after the step in hand, with a checkpoint; the same again ends '
                'it at once',
                self.received.name,
            )


@contextmanager
def passed_on() -> Iterator[None]:
    """Pass SIGTERM and SIGINT on to the processes that this one has started, while they work."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def receive(number: int, _: FrameType | None) -> None:
        for child in multiprocessing.active_children():
            with suppress(ProcessLookupError):
                os.kill(child.pid or 0, number)

    before = {one: signal.signal(one, receive) for one in SIGNALS}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def ignore_interrupts(_: int = 0) -> None:
    """Let a loader process outlive the Ctrl-C of its terminal: the step in hand needs it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
