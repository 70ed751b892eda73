"""The few calls of the CUDA runtime that an engine needs, from NVIDIA's own bindings."""

from __future__ import annotations

import ctypes
import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.errors import EngineError

BINDINGS = ('cuda.bindings.runtime', 'cuda.cudart')
"""Module of cuda-bindings, and where cuda-python had it before."""
DEVICE = 0
"""CUDA_VISIBLE_DEVICES chooses another."""


class CudaError(EngineError):
    """A call of the CUDA runtime failed; most such errors spoil the context they happen in."""


@dataclass(frozen=True)
class Gpu:
    """What an engine depends on besides TensorRT. Versions as CUDA counts them, 12.6."""

    name: str
    compute_capability: str
    cuda_driver: str
    cuda_runtime: str


class Cuda:
    """CUDA runtime calls that raise instead of returning codes; handles are the bindings' own."""

    def __init__(self, api: Any = None) -> None:
        """Take a module with the API of cuda.bindings.runtime; import it where none is given."""
        self._api: Any = _import_bindings() if api is None else api

    def _call(self, name: str, *arguments: Any) -> Any:
        code, *values = getattr(self._api, name)(*arguments)
        if int(code) != 0:
            raise CudaError(f'{name}: {self._text(code)}')
        return values[0] if values else None

    def _text(self, code: Any) -> str:
        _, text = self._api.cudaGetErrorString(code)
        described = text.decode(errors='replace') if isinstance(text, bytes) else str(text)
        return f'CUDA error {int(code)}, {described}'

    def gpu(self) -> Gpu:
        """Return what device 0 is; raise CudaError where there is none."""
        if self._call('cudaGetDeviceCount') < 1:
            raise CudaError('cudaGetDeviceCount: no CUDA device found')
        properties = self._call('cudaGetDeviceProperties', DEVICE)
        name = properties.name
        return Gpu(
            name=name.decode().rstrip('\0') if isinstance(name, bytes) else str(name),
            compute_capability=f'{properties.major}.{properties.minor}',
            cuda_driver=_version(self._call('cudaDriverGetVersion')),
            cuda_runtime=_version(self._call('cudaRuntimeGetVersion')),
        )

    def attach(self) -> None:
        """Make device 0 the one of this thread; waiting for it sleeps instead of spinning."""
        # Refused by some releases once the context exists; the events say the same.
        self._api.cudaSetDeviceFlags(self._api.cudaDeviceScheduleBlockingSync)
        self._api.cudaGetLastError()
        self._call('cudaSetDevice', DEVICE)

    def stream(self) -> Any:
        """Return a new stream that does not wait for the default one."""
        return self._call('cudaStreamCreateWithFlags', self._api.cudaStreamNonBlocking)

    def event(self) -> Any:
        """Return a new event whose waiters sleep."""
        flags = self._api.cudaEventBlockingSync | self._api.cudaEventDisableTiming
        return self._call('cudaEventCreateWithFlags', flags)

    def allocate(self, size_bytes: int) -> int:
        """Return the address of new device memory."""
        return int(self._call('cudaMalloc', size_bytes))

    def allocate_pinned(self, size_bytes: int) -> int:
        """Return the address of new page-locked host memory, which copies need to overlap."""
        return int(self._call('cudaHostAlloc', size_bytes, self._api.cudaHostAllocDefault))

    def copy_in(self, device: int, host: int, size_bytes: int, stream: Any) -> None:
        """Enqueue a copy from host to device."""
        kind = self._api.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call('cudaMemcpyAsync', device, host, size_bytes, kind, stream)

    def copy_out(self, host: int, device: int, size_bytes: int, stream: Any) -> None:
        """Enqueue a copy from device to host."""
        kind = self._api.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call('cudaMemcpyAsync', host, device, size_bytes, kind, stream)

    def wait(self, event: Any, stream: Any) -> None:
        """Sleep until all that was enqueued is done."""
        self._call('cudaEventRecord', event, stream)
        self._call('cudaEventSynchronize', event)

    def begin_capture(self, stream: Any) -> None:
        """Record what is enqueued from now on instead of doing it."""
        mode = self._api.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call('cudaStreamBeginCapture', stream, mode)

    def end_capture(self, stream: Any) -> Any:
        """Return what was recorded as a graph that can be launched."""
        graph = self._call('cudaStreamEndCapture', stream)
        try:
            return self._call('cudaGraphInstantiate', graph, 0)
        finally:
            self._call('cudaGraphDestroy', graph)

    def abort_capture(self, stream: Any) -> None:
        """Leave a capture that went wrong, so that the stream can be used again."""
        self._api.cudaStreamEndCapture(stream)
        self._api.cudaGetLastError()

    def launch(self, graph: Any, stream: Any) -> None:
        """Enqueue a recorded graph."""
        self._call('cudaGraphLaunch', graph, stream)

    def free(self, kind: str, handle: Any) -> None:
        """Release what was made; `kind` is device, pinned, stream, event or graph.

        Errors are not raised: after a failed call every later one fails the same way.
        """
        getattr(self._api, _RELEASE[kind])(handle)


_RELEASE = {
    'device': 'cudaFree',
    'pinned': 'cudaFreeHost',
    'stream': 'cudaStreamDestroy',
    'event': 'cudaEventDestroy',
    'graph': 'cudaGraphExecDestroy',
}


def array_at(address: int, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return the array that lies at a host address; the memory stays the caller's."""
    size_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = (ctypes.c_uint8 * size_bytes).from_address(address)
    array: NDArray[Any] = np.ctypeslib.as_array(memory).view(dtype).reshape(shape)
    return array


def _version(number: int) -> str:
    return f'{number // 1000}.{number % 1000 // 10}'


def _import_bindings() -> Any:
    problems = []
    for name in BINDINGS:
        try:
            return importlib.import_module(name)
        except ImportError as error:
            problems.append(str(error))
    raise EngineError(
        f'TensorRT needs the CUDA bindings for Python ({"; ".join(problems)}): install them with '
        '"pip install cuda-bindings", 12.x with CUDA 12 (JetPack 6), 13.x with CUDA 13'
    )
