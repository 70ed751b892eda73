"""Python and the libraries that run the network."""

from __future__ import annotations

import importlib
import platform
import sys

from cigocc_ros.core.findings import Finding, fail, ok, warn
from cigocc_ros.runtime.engine import AUTO, ONNXRUNTIME, OPENVINO, TORCH

FIRST_PYTHON, END_PYTHON = (3, 10), (3, 14)
LIBRARY_OF_BACKEND = {ONNXRUNTIME: 'onnxruntime', OPENVINO: 'openvino', TORCH: 'torch'}
EXTRA_OF_BACKEND = {ONNXRUNTIME: 'runtime', OPENVINO: 'openvino', TORCH: 'train'}


def check_python(version: tuple[int, ...] = tuple(sys.version_info[:3])) -> Finding:
    """Check that this Python is one the package supports."""
    found = '.'.join(str(part) for part in version)
    if FIRST_PYTHON <= version[:2] < END_PYTHON:
        return ok('python', f'{found} on {platform.machine()}')
    return fail('python', found, '3.10 to 3.13', 'make venv PYTHON=/path/to/python3.11')


def check_opencv() -> Finding:
    """Check the library that rectifies, decodes JPEG and matches stereo."""
    version = library_version('cv2')
    if version is not None:
        return ok('opencv', version)
    return warn(
        'opencv',
        'not importable',
        'OpenCV, for compressed and raw images and for stereo',
        "pip install '.[runtime]' (with apt ROS: sudo apt install python3-opencv)",
    )


def check_backend(backend: str) -> Finding | None:
    """Check the library of a CPU backend; auto needs ONNX Runtime. None for TensorRT."""
    name = ONNXRUNTIME if backend == AUTO else backend
    library = LIBRARY_OF_BACKEND.get(name)
    if library is None:
        return None
    version = library_version(library)
    if version is not None:
        return ok(f'backend {name}', version)
    advice = (
        f'{library} not importable',
        f'{library}, which runs the network',
        f"pip install '.[{EXTRA_OF_BACKEND[name]}]'",
    )
    # TensorRT may still do it where the user left the choice open
    return (warn if backend == AUTO else fail)(f'backend {name}', *advice)


def library_version(name: str) -> str | None:
    """Return the version of a library that can be imported; None where it cannot."""
    try:
        module = importlib.import_module(name)
    except Exception:  # a broken binary raises anything
        return None
    return str(getattr(module, '__version__', 'of unknown version'))
