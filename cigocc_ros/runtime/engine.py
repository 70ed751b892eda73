"""One protocol for everything that runs the network, and the choice between them."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import Protocol

from cigocc_ros.core.errors import EngineError
from cigocc_ros.core.manifest import ModelManifest, TensorSpec
from cigocc_ros.runtime.contract import Arrays

logger = logging.getLogger(__name__)

AUTO, ONNXRUNTIME, TORCH, TENSORRT = 'auto', 'onnxruntime', 'torch', 'tensorrt'
BACKENDS = (AUTO, ONNXRUNTIME, TORCH, TENSORRT)
DEFAULT_THREADS = 0
"""Threads inside one operator; 0 lets the backend take every physical core."""


class Engine(Protocol):
    """A loaded network; arrays are bound by name. One thread at a time."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def run(self, arrays: Arrays) -> Arrays:
        """Return the named outputs of one inference; EngineError for inputs off the contract."""
        ...

    def close(self) -> None:
        """Release the network; `run` must not be called afterwards."""
        ...


def create_engine(
    backend: str, model_dir: Path, manifest: ModelManifest, threads: int = DEFAULT_THREADS
) -> Engine:
    """Load the network of a model folder on a backend of `BACKENDS`.

    Raises ManifestError where files or tensors are not what the manifest says, EngineError where
    the backend cannot be used.
    """
    if backend == AUTO:
        backend = _automatic()
    if backend == ONNXRUNTIME:
        from cigocc_ros.runtime.onnxruntime_engine import OnnxRuntimeEngine

        return OnnxRuntimeEngine(model_dir, manifest, threads)
    if backend == TORCH:
        from cigocc_ros.runtime.torch_engine import TorchEngine

        return TorchEngine(model_dir, manifest, threads)
    if backend == TENSORRT:
        raise EngineError(_tensorrt_missing())
    raise EngineError(f'unknown backend {backend!r}; known: {", ".join(BACKENDS)}')


def _automatic() -> str:
    if importlib.util.find_spec(ONNXRUNTIME) is None:
        raise EngineError(
            'backend auto: onnxruntime is not installed; install it with "pip install onnxruntime"'
        )
    logger.info('backend auto: onnxruntime, because this release has no TensorRT engine to run')
    return ONNXRUNTIME


def _tensorrt_missing() -> str:
    installed = [m for m in ('tensorrt', 'tensorrt_rtx') if importlib.util.find_spec(m)]
    library = (
        f'{installed[0]} is installed' if installed else 'the tensorrt library is missing too'
    )
    return (
        f'backend tensorrt: this release does not contain it ({library}); '
        'use backend:=onnxruntime (or auto), which runs the same model.onnx on the CPU'
    )
