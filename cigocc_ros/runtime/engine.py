"""One protocol for everything that runs the network, and the choice between them."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cigocc_ros.core.errors import EngineError
from cigocc_ros.core.manifest import ModelManifest, TensorSpec
from cigocc_ros.runtime.contract import DEFAULT_THREADS, Arrays

if TYPE_CHECKING:
    from cigocc_ros.runtime.loading import Loading
    from cigocc_ros.runtime.tensorrt.options import TensorRtOptions

logger = logging.getLogger(__name__)

AUTO, ONNXRUNTIME, OPENVINO = 'auto', 'onnxruntime', 'openvino'
TORCH, TENSORRT = 'torch', 'tensorrt'
BACKENDS = (AUTO, ONNXRUNTIME, OPENVINO, TORCH, TENSORRT)


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
    backend: str,
    model_dir: Path,
    manifest: ModelManifest,
    threads: int = DEFAULT_THREADS,
    tensorrt: TensorRtOptions | None = None,
    loading: Loading | None = None,
) -> Engine:
    """Load the network of a model folder on a backend of `BACKENDS`.

    `tensorrt` is read by that backend alone; `loading` hears of a start that takes minutes and can
    cancel it. Raises ManifestError where files or tensors are not what the manifest says,
    EngineError where the backend cannot be used, LoadingCancelled.
    """
    if backend == AUTO:
        backend = _automatic()
    if backend == ONNXRUNTIME:
        from cigocc_ros.runtime.onnxruntime_engine import OnnxRuntimeEngine

        return OnnxRuntimeEngine(model_dir, manifest, threads)
    if backend == OPENVINO:
        from cigocc_ros.runtime.openvino_engine import OpenVinoEngine

        return OpenVinoEngine(model_dir, manifest, threads)
    if backend == TORCH:
        from cigocc_ros.runtime.torch_engine import TorchEngine

        return TorchEngine(model_dir, manifest, threads)
    if backend == TENSORRT:
        from cigocc_ros.runtime.loading import Loading
        from cigocc_ros.runtime.tensorrt.loading import open_tensorrt
        from cigocc_ros.runtime.tensorrt.options import TensorRtOptions

        options = tensorrt or TensorRtOptions()
        return open_tensorrt(model_dir, manifest, options, loading or Loading())
    raise EngineError(f'unknown backend {backend!r}; known: {", ".join(BACKENDS)}')


def _automatic() -> str:
    """Return TensorRT where library and GPU are there, else ONNX Runtime; say why."""
    from cigocc_ros.runtime.tensorrt.loading import why_not_tensorrt

    reason = why_not_tensorrt()
    if not reason:
        logger.info('backend auto: tensorrt, because library and GPU are there')
        return TENSORRT
    if importlib.util.find_spec(ONNXRUNTIME) is None:
        raise EngineError(
            'backend auto: onnxruntime is not installed; install it with "pip install onnxruntime"'
            f'. {reason}'
        )
    installed = any(importlib.util.find_spec(name) for name in (TENSORRT, 'tensorrt_rtx'))
    level = logging.WARNING if installed else logging.INFO
    logger.log(level, 'backend auto: onnxruntime, because there is no TensorRT: %s', reason)
    return ONNXRUNTIME
