"""Send the library's `logging` records to the node's logger, and say repeated things rarely."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from rclpy.node import Node

LIBRARY = 'cigocc_ros'
REPEAT_S = 5.0
Settings = tuple[int, bool]  # level, propagate


class RosLogHandler(logging.Handler):
    """Forward records to an rclpy logger; each level has its own call, which rclpy demands."""

    def __init__(self, ros_logger: Any, settings: Settings) -> None:
        """Take the logger of the node, and what to set the library's logger back to."""
        super().__init__()
        self._log, self.settings = ros_logger, settings

    def emit(self, record: logging.LogRecord) -> None:
        """Log one record."""
        text = self.format(record)
        if record.levelno >= logging.CRITICAL:
            self._log.fatal(text)
        elif record.levelno >= logging.ERROR:
            self._log.error(text)
        elif record.levelno >= logging.WARNING:
            self._log.warning(text)
        elif record.levelno >= logging.INFO:
            self._log.info(text)
        else:
            self._log.debug(text)


def forward_logging(node: Node) -> Callable[[], None]:
    """Forward what the library logs to the node; return the function that ends it."""
    library = logging.getLogger(LIBRARY)
    before = library.level, library.propagate
    handler = RosLogHandler(node.get_logger(), _first_settings(library) or before)
    library.addHandler(handler)
    library.setLevel(logging.INFO)
    library.propagate = False

    def stop() -> None:
        library.removeHandler(handler)
        # nodes of one process end in any order: the last one leaves things as the first found them
        if _first_settings(library) is None:
            level, library.propagate = handler.settings
            library.setLevel(level)

    return stop


def _first_settings(library: logging.Logger) -> Settings | None:
    """Return level and propagation from before any node forwarded; None where none does."""
    found = (one.settings for one in library.handlers if isinstance(one, RosLogHandler))
    return next(found, None)


class Throttle:
    """Say yes at most every `REPEAT_S` seconds per key, and count the silent ones."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        """Take the clock."""
        self._now_s = now_s
        self._next_s: dict[str, float] = {}
        self._silent: dict[str, int] = {}

    def __call__(self, key: str) -> int | None:
        """Return how often it was silent since it last said yes, or None to be silent now."""
        now = self._now_s()
        if now < self._next_s.get(key, 0.0):
            self._silent[key] = self._silent.get(key, 0) + 1
            return None
        self._next_s[key] = now + REPEAT_S
        return self._silent.pop(key, 0)
