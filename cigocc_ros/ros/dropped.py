"""The one way a frame is given up: with a short reason that is counted and shown."""

from __future__ import annotations

from cigocc_ros.core.errors import FrameError


class DroppedFrame(FrameError):
    """One message cannot be used; `reason` is the key it is counted under in diagnostics."""

    def __init__(self, reason: str, message: str) -> None:
        """Keep the reason beside the explanation."""
        super().__init__(message)
        self.reason = reason
