"""One protocol for everything that runs the network, and the choice between them."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cigocc_ros.core.errors import EngineError
from cigocc_ros.core.installing import pip_line
from cigocc_ros.core.manifest import ModelManifest, TensorSpec
from cigocc_ros.runtime.contract import DEFAULT_THREADS, Arrays
from cigocc_ros.runtime.devices import AUTO_DEVICE, CPU, gpu_name, is_gpu, require_no_gpu

if TYPE_CHECKING:
    from cigocc_ros.runtime.loading import Loading
    from cigocc_ros.runtime.tensorrt.options import TensorRtOptions

logger = logging.getLogger(__name__)

AUTO, ONNXRUNTIME, OPENVINO = 'auto', 'onnxruntime', 'openvino'
TORCH, TENSORRT = 'torch', 'tensorrt'
BACKENDS = (AUTO, ONNXRUNTIME, OPENVINO, TORCH, TENSORRT)


class Engine(Protocol):
    """A loaded network; arrays are bound by name. One thread at a time.

    An engine that has `on_gpu` and sets it leaves the CPU alone while it runs: the node then works
    on other frames meanwhile.
    """

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
    device: str = AUTO_DEVICE,
) -> Engine:
    """Load the network of a model folder on a backend of `BACKENDS` and a device of `devices`.

    `tensorrt` is read by that backend alone; `loading` hears of a start that takes minutes and can
    cancel it. Raises ManifestError where files or tensors are not what the manifest says,
    EngineError where the backend or the device cannot be used, ConfigError for a device that is
    none, LoadingCancelled.
    """
    if backend == AUTO:
        backend = _automatic(device)
    if backend == ONNXRUNTIME:
        from cigocc_ros.runtime.onnxruntime_engine import OnnxRuntimeEngine

        return OnnxRuntimeEngine(model_dir, manifest, threads, device)
    if backend == OPENVINO:
        from cigocc_ros.runtime.openvino_engine import OpenVinoEngine

        require_no_gpu(device, backend)
        return OpenVinoEngine(model_dir, manifest, threads)
    if backend == TORCH:
        from cigocc_ros.runtime.torch_engine import TorchEngine

        return TorchEngine(model_dir, manifest, threads, device)
    if backend == TENSORRT:
        from cigocc_ros.runtime.loading import Loading
        from cigocc_ros.runtime.tensorrt.loading import open_tensorrt
        from cigocc_ros.runtime.tensorrt.options import TensorRtOptions

        if device == CPU:
            raise EngineError('device cpu: backend tensorrt runs on GPUs; use backend onnxruntime')
        options = tensorrt or TensorRtOptions()
        return open_tensorrt(model_dir, manifest, options, loading or Loading(), gpu_name(device))
    raise EngineError(f'unknown backend {backend!r}; known: {", ".join(BACKENDS)}')


def _automatic(device: str) -> str:
    """Return TensorRT, else ONNX Runtime with CUDA, else ONNX Runtime on the CPU; say why."""
    if device == CPU:
        _require_onnxruntime('device is cpu')
        logger.info('backend auto: onnxruntime on the CPU, because device is cpu')
        return ONNXRUNTIME
    from cigocc_ros.runtime.onnxruntime_engine import why_not_cuda
    from cigocc_ros.runtime.tensorrt.loading import why_not_tensorrt

    no_tensorrt = why_not_tensorrt(gpu_name(device))
    if not no_tensorrt:
        logger.info('backend auto: tensorrt, because library and GPU are there')
        return TENSORRT
    _require_onnxruntime(no_tensorrt)
    no_cuda = why_not_cuda(device)
    if not no_cuda:
        why = f'there is no TensorRT: {no_tensorrt}'
        logger.info('backend auto: onnxruntime on a GPU, because %s', why)
    elif is_gpu(device):
        raise EngineError(f'device {device!r}: no TensorRT: {no_tensorrt}; and {no_cuda}')
    else:
        installed = any(importlib.util.find_spec(name) for name in (TENSORRT, 'tensorrt_rtx'))
        why = f'there is no TensorRT: {no_tensorrt}; and {no_cuda}'
        level = logging.WARNING if installed else logging.INFO
        logger.log(level, 'backend auto: onnxruntime on the CPU, because %s', why)
    return ONNXRUNTIME


def _require_onnxruntime(reason: str) -> None:
    if importlib.util.find_spec(ONNXRUNTIME) is None:
        raise EngineError(
            f'backend auto: onnxruntime is not installed; do: {pip_line("onnxruntime")}. {reason}'
        )
