"""What a long start tells those who wait for it, and how they call it off."""

from __future__ import annotations

import threading

from cigocc_ros.core.errors import EngineError


class LoadingCancelled(EngineError):
    """Loading was called off, by Ctrl-C or by the shutdown of the node."""


class Loading:
    """Shared by the thread that loads and the one that waits; all of it thread-safe."""

    def __init__(self) -> None:
        """Start without a message."""
        self._cancelled = threading.Event()
        self.message = ''
        """What is going on, for people; empty while there is nothing worth telling."""

    def tell(self, message: str) -> None:
        """Replace the message."""
        self.message = message

    def cancel(self) -> None:
        """Ask the loading thread to stop at the next opportunity."""
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._cancelled.is_set()

    def wait_cancelled(self, seconds: float) -> bool:
        """Sleep, but not longer than until `cancel`; return `cancelled`."""
        return self._cancelled.wait(seconds)

    def check(self) -> None:
        """Raise LoadingCancelled once `cancel` was called."""
        if self.cancelled:
            raise LoadingCancelled('cancelled while the network was being loaded')
