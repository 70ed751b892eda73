"""One engine, one context, one stream and their buffers; all of it belongs to one thread."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.errors import EngineError
from cigocc_ros.core.manifest import ModelManifest, TensorSpec
from cigocc_ros.runtime.contract import Arrays, check_specs
from cigocc_ros.runtime.tensorrt.cuda import Cuda, array_at
from cigocc_ros.runtime.tensorrt.kernel_cache import KernelCache
from cigocc_ros.runtime.tensorrt.library import (
    TensorRt,
    engine_specs,
    library_log,
    register_plugins,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Buffer:
    """A tensor on the device and its page-locked counterpart on the host."""

    name: str
    device: int
    host: int
    staging: NDArray[Any]

    @property
    def size_bytes(self) -> int:
        """Size of either side."""
        return self.staging.nbytes


class TensorRtSession:
    """A deserialised engine, ready to run; create, use and close it in the same thread."""

    def __init__(
        self,
        library: TensorRt,
        cuda: Cuda,
        plan: bytes,
        manifest: ModelManifest,
        cuda_graph: bool,
        kernels: KernelCache | None = None,
    ) -> None:
        """Deserialise a verified plan, check its tensors by name, allocate, run once, capture.

        `kernels` is for TensorRT-RTX. Raises EngineError, CudaError or ManifestError and leaves
        nothing allocated then.
        """
        self._library, self._cuda, self._kernels = library, cuda, kernels
        self._owned = ExitStack()
        self._engine: Any = None
        self._context: Any = None
        self._stream = self._event = 0
        self._graph: int | None = None
        self._inputs: list[Buffer] = []
        self._outputs: list[Buffer] = []
        try:
            self._open(plan, manifest)
            self._enqueue()  # TensorRT finishes its own set-up in the first run
            self._cuda.wait(self._event, self._stream)
            if kernels is not None:
                kernels.keep()
            if cuda_graph:
                self._capture()
        except BaseException:
            self.close()
            raise

    @property
    def uses_graph(self) -> bool:
        """Whether a frame is one launch of a CUDA graph."""
        return self._graph is not None

    def run(self, arrays: Arrays) -> Arrays:
        """Return the named outputs, copies that the caller may keep; raise CudaError."""
        for buffer in self._inputs:
            np.copyto(buffer.staging, arrays[buffer.name])
        if self._graph is None:
            self._enqueue()
        else:
            self._cuda.launch(self._graph, self._stream)
        self._cuda.wait(self._event, self._stream)
        return {buffer.name: buffer.staging.copy() for buffer in self._outputs}

    def attach_profiler(self, profiler: Any) -> None:
        """Let an IProfiler of the library hear how long each layer takes, in every later run."""
        self._context.profiler = profiler

    def layer_information(self) -> str:
        """Return what the library says of the engine's layers, as JSON."""
        inspector = self._engine.create_engine_inspector()
        inspector.execution_context = self._context
        form = self._library.module.LayerInformationFormat.JSON
        return str(inspector.get_engine_information(form))

    def close(self) -> None:
        """Release everything, the latest first."""
        self._owned.close()

    def _forget(self) -> None:
        """Let go of what TensorRT made, which needs the CUDA context for that."""
        self._graph = self._context = self._engine = None

    def _open(self, plan: bytes, manifest: ModelManifest) -> None:
        self._cuda.attach()
        self._owned.callback(self._cuda.detach)
        self._owned.callback(self._forget)
        self._engine = deserialise(self._library, plan)
        check_engine_tensors(self._library, self._engine, manifest)
        self._context = self._new_context()
        if self._context is None:
            raise EngineError(f'no execution context: {self._reason()}')
        self._stream = self._own('stream', self._cuda.stream())
        self._event = self._own('event', self._cuda.event())
        self._inputs = [self._buffer(spec) for spec in manifest.inputs]
        self._outputs = [self._buffer(spec) for spec in manifest.outputs]

    def _new_context(self) -> Any:
        if self._kernels is None:
            return self._engine.create_execution_context()
        return self._kernels.context(self._engine)

    def _own(self, kind: str, handle: int) -> int:
        self._owned.callback(self._cuda.free, kind, handle)
        return handle

    def _buffer(self, spec: TensorSpec) -> Buffer:
        """Allocate both sides of a tensor, zeroed on the host, and bind it once and for all."""
        size_bytes = int(np.prod(spec.shape)) * np.dtype(spec.dtype).itemsize
        device = self._own('device', self._cuda.allocate(size_bytes))
        host = self._own('pinned', self._cuda.allocate_pinned(size_bytes))
        staging = array_at(host, spec.dtype, spec.shape)
        staging.fill(0)
        if not self._context.set_tensor_address(spec.name, device):
            raise EngineError(f'tensor {spec.name} cannot be bound: {self._reason()}')
        return Buffer(spec.name, device, host, staging)

    def _enqueue(self) -> None:
        """Copy in, execute, copy out, all in the order of the stream."""
        for buffer in self._inputs:
            self._cuda.copy_in(buffer.device, buffer.host, buffer.size_bytes, self._stream)
        if not self._context.execute_async_v3(self._stream):
            raise EngineError(f'execution cannot be enqueued: {self._reason()}')
        for buffer in self._outputs:
            self._cuda.copy_out(buffer.host, buffer.device, buffer.size_bytes, self._stream)

    def _capture(self) -> None:
        """Record a frame as a graph; where that is refused, frames are enqueued one by one."""
        if not self._capturable():
            logger.info('no CUDA graph, each kernel is launched by itself: not for this network')
            return
        self._cuda.begin_capture(self._stream)
        try:
            self._enqueue()
            graph = self._cuda.end_capture(self._stream)
        except EngineError as error:
            self._cuda.abort_capture(self._stream)
            logger.warning('no CUDA graph, each kernel is launched by itself: %s', error)
            return
        self._graph = self._own('graph', graph)

    def _capturable(self) -> bool:
        """Ask TensorRT-RTX, which knows; TensorRT has no such question."""
        ask = getattr(self._context, 'is_stream_capturable', None)
        return ask is None or bool(ask(self._stream))

    def _reason(self) -> str:
        return library_log(self._library)[1].take()


def deserialise(library: TensorRt, plan: bytes) -> Any:
    """Return the engine of a plan whose hash was verified; raise EngineError."""
    register_plugins(library)
    log, messages = library_log(library)
    runtime = library.module.Runtime(log)
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise EngineError(f'{library} cannot load the engine: {messages.take()}')
    return engine


def check_engine_tensors(library: TensorRt, engine: Any, manifest: ModelManifest) -> None:
    """Raise ManifestError where names, types or shapes are not those of the manifest."""
    inputs, outputs = engine_specs(library, engine)
    check_specs(f'{library} engine: inputs', manifest.inputs, inputs)
    check_specs(f'{library} engine: outputs', manifest.outputs, outputs)
