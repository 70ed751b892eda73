"""Run model.onnx with ONNX Runtime, on the CPU or with CUDA; torch is never imported."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from cigocc_ros.core.errors import EngineError
from cigocc_ros.core.installing import pip_line
from cigocc_ros.core.manifest import ModelManifest, TensorSpec, verified_content
from cigocc_ros.runtime.contract import (
    DEFAULT_THREADS,
    ONNX_ROLE,
    Arrays,
    check_arrays,
    check_manifest,
    check_specs,
)
from cigocc_ros.runtime.devices import CPU, gpu_ordinal, is_gpu

logger = logging.getLogger(__name__)

CUDA_PROVIDER, CPU_PROVIDER = 'CUDAExecutionProvider', 'CPUExecutionProvider'
INSTALL_CUDA = f'{pip_line("onnxruntime-gpu")}, in place of onnxruntime, with cuDNN 9 and its CUDA'
NUMPY_NAMES = {
    'tensor(uint8)': 'uint8',
    'tensor(float)': 'float32',
    'tensor(float16)': 'float16',
    'tensor(double)': 'float64',
    'tensor(int32)': 'int32',
    'tensor(int64)': 'int64',
    'tensor(bool)': 'bool',
}


class OnnxRuntimeEngine:
    """A session whose tensors were checked against the manifest before the first run."""

    def __init__(
        self,
        model_dir: Path,
        manifest: ModelManifest,
        threads: int = DEFAULT_THREADS,
        device: str = CPU,
        frugal: bool = False,
    ) -> None:
        """Verify hash, load, compare the graph's tensors with the manifest's.

        `device` is one of `devices`; with `auto` a GPU that cannot be used is a WARN and the CPU.
        Raises ManifestError for a changed file or other tensors, EngineError where ONNX Runtime
        is missing, cannot read the file, or cannot use the GPU that is demanded. `frugal` on the
        CPU: see `open_session`.
        """
        check_manifest(manifest)
        path = model_dir / manifest.file(ONNX_ROLE).path
        content = verified_content(model_dir, manifest, ONNX_ROLE)
        self._session: Any
        self._session, where = _open_on(device, path, threads, content, frugal)
        self.name = f'onnxruntime {_import_onnxruntime().__version__} {where}'
        self.on_gpu = not self._session.get_providers()[0].startswith('CPU')
        self.inputs = _specs(self._session.get_inputs())
        self.outputs = _specs(self._session.get_outputs())
        check_specs(f'{path}: inputs', manifest.inputs, self.inputs)
        check_specs(f'{path}: outputs', manifest.outputs, self.outputs)
        self._output_names = [spec.name for spec in self.outputs]

    def run(self, arrays: Arrays) -> Arrays:
        """Return the named outputs; the arrays are the caller's to keep. Raises EngineError."""
        if self._session is None:
            raise EngineError(f'{self.name}: run() after close()')
        check_arrays(self.inputs, arrays)
        try:
            outputs = self._session.run(self._output_names, arrays)
        except Exception as error:  # ONNX Runtime's own exceptions share no base class
            raise EngineError(f'{self.name}: {error}') from error
        return dict(zip(self._output_names, outputs, strict=True))

    def close(self) -> None:
        """Release the session and its memory."""
        self._session = None


def open_session(
    path: Path,
    threads: int = DEFAULT_THREADS,
    content: bytes | None = None,
    frugal: bool = False,
) -> Any:
    """Return a CPU session of an ONNX file; raise EngineError where it cannot load.

    `content` are its bytes where they were checked; without them the file is loaded, unchecked.
    `frugal` computes a value as late and gives its memory back as soon as possible: for large
    networks that answer a few frames. A camera's stream is faster with the arena that keeps it.
    """
    return _session(path, threads, content, [CPU_PROVIDER], frugal)


def why_not_cuda(device: str) -> str:
    """Return why ONNX Runtime cannot use a GPU; empty where provider and GPU are there.

    Whether the provider's libraries load is known once a session is made.
    """
    try:
        providers = _import_onnxruntime().get_available_providers()
        if CUDA_PROVIDER not in providers:
            return f'this onnxruntime has no {CUDA_PROVIDER}, only {providers}: {INSTALL_CUDA}'
        gpu_ordinal(device)
    except EngineError as error:
        return str(error)
    return ''


def _open_on(
    device: str, path: Path, threads: int, content: bytes, frugal: bool
) -> tuple[Any, str]:
    """Return a session and the processor it runs on, in words."""
    reason = '' if device == CPU else why_not_cuda(device)
    if device != CPU and not reason:
        try:
            ordinal = gpu_ordinal(device)
            return _open_cuda(path, threads, content, ordinal), f'CUDA {ordinal}'
        except EngineError as error:
            reason = str(error)
            if not is_gpu(device):
                logger.warning('onnxruntime runs on the CPU: %s', reason)
    if is_gpu(device):
        raise EngineError(f'device {device!r}: {reason}')
    return open_session(path, threads, content, frugal), 'CPU'


def _open_cuda(path: Path, threads: int, content: bytes, ordinal: int) -> Any:
    """Return a session on a GPU; raise EngineError where it would run on the CPU instead.

    ONNX Runtime falls back by itself, and says so in its own log only: `InferenceSession` of its
    Python package retries without the provider, and its C++ side leaves out a provider whose
    libraries do not load (CUDA, cuDNN). TF32 would round projections by up to a pixel.
    """
    runtime = _import_onnxruntime()
    if hasattr(runtime, 'preload_dlls'):  # from 1.21: libraries of the nvidia wheels
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            runtime.preload_dlls()
        logger.debug('preload_dlls: %s', said.getvalue().strip() or 'nothing said')
    cuda = (CUDA_PROVIDER, {'device_id': str(ordinal), 'use_tf32': '0'})
    session = _session(path, threads, content, [cuda, CPU_PROVIDER])
    found = session.get_providers()
    if CUDA_PROVIDER not in found:
        raise EngineError(
            f'{CUDA_PROVIDER} could not be loaded, ONNX Runtime took {found} (its log says which '
            f'library is missing): {INSTALL_CUDA}'
        )
    session.disable_fallback()
    return session


def _session(
    path: Path,
    threads: int,
    content: bytes | None,
    providers: Sequence[object],
    frugal: bool = False,
) -> Any:
    runtime = _import_onnxruntime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning workers burn cores between frames and gain nothing measurable at camera rate.
    options.add_session_config_entry('session.intra_op.allow_spinning', '0')
    options.log_severity_level = 3
    if frugal:
        options.enable_cpu_mem_arena = False
        options.execution_order = runtime.ExecutionOrder.PRIORITY_BASED
    source = str(path) if content is None else content
    try:
        return runtime.InferenceSession(
            source, options, providers=list(providers), enable_fallback=0
        )
    except Exception as error:  # ONNX Runtime's own exceptions share no base class
        raise EngineError(f'{path}: ONNX Runtime cannot load it: {error}') from error


def _specs(nodes: Iterable[Any]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(node.name, NUMPY_NAMES.get(node.type, node.type), tuple(node.shape))
        for node in nodes
    )


def _import_onnxruntime() -> ModuleType:
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineError(
            f'onnxruntime is not installed; do: {pip_line("onnxruntime")}'
        ) from error
    module: ModuleType = onnxruntime
    return module
