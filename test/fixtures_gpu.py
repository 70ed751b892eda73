"""The fake TensorRT and CUDA of test/fake_gpu, in this process and in children."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

FAKES = Path(__file__).resolve().parent / 'fake_gpu'
LIBRARIES = ('tensorrt', 'tensorrt_rtx', 'cuda')


def install_fakes(patch: pytest.MonkeyPatch, **environment: str) -> Any:
    """Let `import tensorrt` and `import cuda` find the fakes until the patch is undone.

    Returns the modules as `.trt` and `.cuda`.
    """
    for name, value in environment.items():
        patch.setenv(name, value)
    for name in [name for name in sys.modules if name.partition('.')[0] in LIBRARIES]:
        patch.delitem(sys.modules, name)
    patch.syspath_prepend(str(FAKES))
    inherited = os.environ.get('PYTHONPATH')
    patch.setenv('PYTHONPATH', os.pathsep.join(filter(None, [str(FAKES), inherited])))
    trt = importlib.import_module('tensorrt')
    cuda = importlib.import_module('cuda.bindings.runtime')
    assert str(FAKES) in trt.__file__ and str(FAKES) in cuda.__file__
    return SimpleNamespace(trt=trt, cuda=cuda)


def forget_fakes() -> None:
    """Drop the fakes, which the patch did not put into sys.modules itself."""
    for name in [name for name in sys.modules if name.partition('.')[0] in LIBRARIES]:
        if str(FAKES) in str(getattr(sys.modules[name], '__file__', '')):
            del sys.modules[name]
