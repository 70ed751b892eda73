"""The fake TensorRT and CUDA driver of test/fake_gpu, in this process and in children."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

FAKES = Path(__file__).resolve().parent / 'fake_gpu'
MODULES = ('tensorrt', 'tensorrt_rtx', 'fake_cuda')


def compiled_driver(folder: Path) -> Path:
    """Return the fake driver, compiled into a folder; skip where there is no C compiler."""
    fake_cuda = _fake('fake_cuda')
    if fake_cuda.compiler() is None:
        pytest.skip('no C compiler (cc, gcc or clang) for the fake CUDA driver')
    return Path(fake_cuda.compile_driver(folder))


def install_driver(patch: pytest.MonkeyPatch, compiled: Path, folder: Path, **more: str) -> Any:
    """Let `libcuda.so.1` be a copy of the fake, here and in children; return its controls.

    A copy is another library to the loader: each has its own state.
    """
    path = Path(shutil.copy(compiled, folder))
    fake_cuda = _fake('fake_cuda')
    for name, value in {fake_cuda.LOADED: str(path), **more}.items():
        patch.setenv(name, value)
    _prepend(patch, 'LD_LIBRARY_PATH', folder)  # children; the loader of this process has read it
    patch.setattr('cigocc_ros.runtime.tensorrt.driver.LIBRARY', str(path))
    return fake_cuda.driver()


def install_tensorrt(patch: pytest.MonkeyPatch) -> Any:
    """Let `import tensorrt` find the fake until the patch is undone, here and in children."""
    for name in [name for name in sys.modules if name.partition('.')[0] in MODULES[:2]]:
        patch.delitem(sys.modules, name)
    patch.syspath_prepend(str(FAKES))
    _prepend(patch, 'PYTHONPATH', FAKES)
    module = importlib.import_module('tensorrt')
    assert str(FAKES) in str(module.__file__)
    return module


def forget_fakes() -> None:
    """Drop the fakes, which the patch did not put into sys.modules itself."""
    for name in [name for name in sys.modules if name.partition('.')[0] in MODULES]:
        if str(FAKES) in str(getattr(sys.modules[name], '__file__', '')):
            del sys.modules[name]


def both(trt: Any, cuda: Any) -> Any:
    """Return the fake library as .trt and the controls of the fake driver as .cuda."""
    return SimpleNamespace(trt=trt, cuda=cuda)


def _fake(name: str) -> Any:
    if str(FAKES) not in sys.path:
        sys.path.append(str(FAKES))
    try:
        return importlib.import_module(name)
    finally:
        if sys.path[-1] == str(FAKES):
            sys.path.pop()


def _prepend(patch: pytest.MonkeyPatch, name: str, folder: Path) -> None:
    patch.setenv(name, os.pathsep.join(filter(None, [str(folder), os.environ.get(name)])))
