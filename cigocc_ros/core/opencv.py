"""OpenCV on demand: nothing but what needs it fails where it is not installed."""

from __future__ import annotations

import functools
import importlib.util
from types import ModuleType


@functools.cache
def has_cv2() -> bool:
    """Say whether OpenCV is installed, without importing it."""
    return importlib.util.find_spec('cv2') is not None


def import_cv2(purpose: str) -> ModuleType:
    """Return cv2; the ImportError says what it is needed for and how to install it."""
    try:
        import cv2
    except ImportError as error:
        raise type(error)(
            f'{purpose} needs OpenCV, which cannot be imported ({error}); install it with '
            '"pip install opencv-python-headless" or "apt install python3-opencv"',
            name='cv2',
        ) from error
    return cv2
