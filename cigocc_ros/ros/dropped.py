"""The one way a frame is given up: with a short reason that is counted and excerpt."""

from __future__ import annotations

from types import ModuleType

from cigocc_ros.core.errors import FrameError
from cigocc_ros.core.opencv import import_cv2
from cigocc_ros.core.text import cut

MAX_MESSAGE_CHARACTERS = 600
"""Of an explanation: senders choose the strings in it, logs and diagnostics repeat them."""


class DroppedFrame(FrameError):
    """One message cannot be used; `reason` is the key it is counted under in diagnostics."""

    def __init__(self, reason: str, message: str) -> None:
        """Keep the reason beside the explanation."""
        super().__init__(cut(message, MAX_MESSAGE_CHARACTERS))
        self.reason = reason


def opencv(purpose: str, otherwise: str = '') -> ModuleType:
    """Return cv2; drop the frame where it is missing, saying what for and what to do instead."""
    try:
        return import_cv2(purpose)
    except ImportError as error:
        raise DroppedFrame('no_opencv', f'{error}{otherwise}') from error
