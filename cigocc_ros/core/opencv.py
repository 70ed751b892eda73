"""OpenCV on demand: nothing but what needs it fails where it is missing or broken."""

from __future__ import annotations

import contextlib
import io
import sys
from types import ModuleType

INSTALL = 'apt install python3-opencv beside a system ROS, else pip install opencv-python-headless'
DOWNGRADE = "pip uninstall numpy, so that apt's is used, or pip install 'numpy<2'"
_broken: ImportError | None = None
"""Why an installed OpenCV could not be imported: it is not tried for every frame."""


def has_cv2() -> bool:
    """Say whether OpenCV can be imported."""
    try:
        _load()
    except ImportError:
        return False
    return True


def import_cv2(purpose: str) -> ModuleType:
    """Return cv2; the ImportError says what it is needed for and what mends it, in one line."""
    try:
        return _load()
    except ImportError as error:
        raise type(error)(
            f'{purpose} needs OpenCV, which cannot be imported: {opencv_problem(error)}',
            name='cv2',
        ) from error


def opencv_problem(error: ImportError) -> str:
    """Return in one line why cv2 could not be imported, and what to do.

    An OpenCV built for numpy 1, as those of Ubuntu 22.04 and 24.04 are, cannot run with numpy 2.
    """
    if isinstance(error, ModuleNotFoundError) and error.name == 'cv2':
        return f'it is not installed ({INSTALL})'
    if 'numpy' in str(error).lower():
        return f'it was built for another numpy than {_numpy_version()} ({DOWNGRADE})'
    return f'{" ".join(str(error).split())} ({INSTALL})'


def _load() -> ModuleType:
    """Import cv2, quietly and at most once where it is broken; raise ImportError."""
    global _broken
    if _broken is not None:
        raise _broken
    if 'cv2' in sys.modules and sys.modules['cv2'] is not None:
        return sys.modules['cv2']
    # numpy writes forty lines to stderr for a module of numpy 1
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            import cv2
    except ModuleNotFoundError as error:
        if error.name == 'cv2':
            raise
        _broken = error
        raise
    except Exception as error:  # the binary of another numpy raises AttributeError and worse
        _broken = error if isinstance(error, ImportError) else ImportError(str(error))
        raise _broken from error
    sys.stderr.write(said.getvalue())
    return cv2


def _numpy_version() -> str:
    import numpy

    return numpy.__version__
