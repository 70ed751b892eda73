"""Python and the libraries that run the network; room for engines and logs."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import sys
from pathlib import Path

from cigocc_ros.core.installing import install_line
from cigocc_ros.core.opencv import DOWNGRADE, INSTALL, import_cv2
from cigocc_ros.doctor.finding import Finding, fail, ok, warn
from cigocc_ros.runtime.engine import AUTO, ONNXRUNTIME, OPENVINO, TORCH

FIRST_PYTHON, LAST_PYTHON = (3, 10), (3, 14)
"""Those of Ubuntu 22.04 (Humble) and 26.04 (Lyrical)."""
LIBRARY_OF_BACKEND = {ONNXRUNTIME: 'onnxruntime', OPENVINO: 'openvino', TORCH: 'torch'}
EXTRA_OF_BACKEND = {ONNXRUNTIME: 'runtime', OPENVINO: 'openvino', TORCH: 'train'}


def check_python(version: tuple[int, ...] = tuple(sys.version_info[:3])) -> Finding:
    """Check that this Python is one the package supports."""
    found = '.'.join(str(part) for part in version)
    if FIRST_PYTHON <= version[:2] <= LAST_PYTHON:
        return ok('python', f'{found} on {platform.machine()}')
    expected = ' to '.join('.'.join(map(str, pair)) for pair in (FIRST_PYTHON, LAST_PYTHON))
    return fail('python', found, expected, 'make venv PYTHON=/path/to/python3.11')


def check_opencv() -> Finding:
    """Check the library that rectifies, decodes JPEG and matches stereo."""
    try:
        return ok('opencv', str(import_cv2('the node').__version__))
    except ImportError as error:
        found = f'not importable: {str(error).partition(": ")[2]}'
    fix = DOWNGRADE if 'numpy' in found else INSTALL
    return warn('opencv', found, 'OpenCV, for compressed and raw images and for stereo', fix)


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
        install_line(library, EXTRA_OF_BACKEND[name]),
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


ENGINE_ROOM_BYTES = 2_000_000_000
"""An engine of the largest network, its timing cache, and the next one beside it."""
LEAST_ROOM_BYTES = 200_000_000
"""Below this, logs and the engine of the small network do not fit either."""


def check_disk(folder: Path, free_bytes: int | None = None) -> Finding:
    """Check free space where engines are written; `free_bytes` replaces what the disk says."""
    present = next(path for path in (folder, *folder.resolve().parents) if path.is_dir())
    free = shutil.disk_usage(present).free if free_bytes is None else free_bytes
    found = f'{free / 1e9:.1f} GB free in {present}'
    fix = f'make room in {present}, or name another folder (tensorrt.engine_dir)'
    if free < LEAST_ROOM_BYTES:
        return fail('disk', found, f'{LEAST_ROOM_BYTES / 1e9:.1f} GB at least', fix)
    if free < ENGINE_ROOM_BYTES:
        return warn('disk', found, f'{ENGINE_ROOM_BYTES / 1e9:.1f} GB for engines', fix)
    return ok('disk', found)


def check_writable(folder: Path) -> Finding:
    """Check that engines can be written; asked only where TensorRT runs."""
    present = next(path for path in (folder, *folder.resolve().parents) if path.is_dir())
    if os.access(present, os.W_OK):
        return ok('engine folder', f'{folder} can be written')
    return warn(
        'engine folder',
        f'{present} cannot be written by you',
        'a folder that the builder can write',
        'name another one: tensorrt.engine_dir:=FOLDER, cigocc build-engine --engine-dir FOLDER',
    )
