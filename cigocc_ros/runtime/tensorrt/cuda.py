"""The few things that an engine needs of CUDA: a context, memory, a stream, an event, a graph."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.runtime.tensorrt.driver import CudaError, Driver
from cigocc_ros.runtime.tensorrt.gpus import Gpu

_BLOCKING_SYNC, _NON_BLOCKING = 0x04, 0x01
_EVENT_BLOCKING_SYNC, _EVENT_DISABLE_TIMING = 0x01, 0x02
_CAPTURE_THREAD_LOCAL = 1
"""Flags of cuda.h."""
_PRIMARY_CONTEXT_ACTIVE = 708


class Cuda:
    """One GPU. Handles and addresses are numbers; every call may raise CudaError."""

    def __init__(self, gpu: Gpu) -> None:
        """Take the GPU; touch it only when a thread attaches."""
        self.gpu = gpu
        self._driver = Driver()

    def attach(self) -> None:
        """Make the context that TensorRT uses, too, the one of this thread; waiting sleeps."""
        try:
            self._driver('cuDevicePrimaryCtxSetFlags_v2', self.gpu.ordinal, _BLOCKING_SYNC)
        except CudaError as error:  # before CUDA 11 where it exists; the events say the same
            if error.code != _PRIMARY_CONTEXT_ACTIVE:
                raise
        context = self._driver.made('cuDevicePrimaryCtxRetain', self.gpu.ordinal)
        try:
            self._driver('cuCtxSetCurrent', context)
        except CudaError:
            self._driver('cuDevicePrimaryCtxRelease_v2', self.gpu.ordinal)
            raise

    def detach(self) -> None:
        """Let go of the context; once per `attach`, in its thread, after everything is freed."""
        with contextlib.suppress(CudaError):  # after a failed call every later one fails, too
            self._driver('cuCtxSetCurrent', None)
        with contextlib.suppress(CudaError):
            self._driver('cuDevicePrimaryCtxRelease_v2', self.gpu.ordinal)

    def stream(self) -> int:
        """Return a new stream that does not wait for the default one."""
        return self._driver.made('cuStreamCreate', _NON_BLOCKING)

    def event(self) -> int:
        """Return a new event whose waiters sleep."""
        return self._driver.made('cuEventCreate', _EVENT_BLOCKING_SYNC | _EVENT_DISABLE_TIMING)

    def allocate(self, size_bytes: int) -> int:
        """Return the address of new device memory."""
        return self._driver.made('cuMemAlloc_v2', size_bytes)

    def allocate_pinned(self, size_bytes: int) -> int:
        """Return the address of new page-locked host memory, which copies need to overlap."""
        return self._driver.made('cuMemHostAlloc', size_bytes, 0)

    def copy_in(self, device: int, host: int, size_bytes: int, stream: int) -> None:
        """Enqueue a copy from host to device."""
        self._driver('cuMemcpyHtoDAsync_v2', device, host, size_bytes, stream)

    def copy_out(self, host: int, device: int, size_bytes: int, stream: int) -> None:
        """Enqueue a copy from device to host."""
        self._driver('cuMemcpyDtoHAsync_v2', host, device, size_bytes, stream)

    def wait(self, event: int, stream: int) -> None:
        """Sleep until all that was enqueued is done; other threads run meanwhile."""
        self._driver('cuEventRecord', event, stream)
        self._driver('cuEventSynchronize', event)

    def begin_capture(self, stream: int) -> None:
        """Record what is enqueued from now on instead of doing it."""
        self._driver('cuStreamBeginCapture_v2', stream, _CAPTURE_THREAD_LOCAL)

    def end_capture(self, stream: int) -> int:
        """Return what was recorded as a graph that can be launched."""
        graph = self._driver.made('cuStreamEndCapture', stream)
        try:
            return self._driver.made('cuGraphInstantiateWithFlags', graph, 0)
        finally:
            self._driver('cuGraphDestroy', graph)

    def abort_capture(self, stream: int) -> None:
        """Leave a capture that went wrong, so that the stream can be used again."""
        with contextlib.suppress(CudaError):  # says that it went wrong, or that it is over
            self._driver('cuGraphDestroy', self._driver.made('cuStreamEndCapture', stream))

    def launch(self, graph: int, stream: int) -> None:
        """Enqueue a recorded graph."""
        self._driver('cuGraphLaunch', graph, stream)

    def free(self, kind: str, handle: int) -> None:
        """Release what was made; `kind` is device, pinned, stream, event or graph.

        Errors are not raised: after a failed call every later one fails the same way.
        """
        with contextlib.suppress(CudaError):
            self._driver(_RELEASE[kind], handle)


@contextlib.contextmanager
def working_on(gpu: Gpu | None) -> Iterator[None]:
    """Make a GPU the current one of this thread, if there is one; raise CudaError.

    Builders, engines and timings of TensorRT belong to the GPU that is current when they are made.
    """
    if gpu is None:
        yield
        return
    cuda = Cuda(gpu)
    cuda.attach()
    try:
        yield
    finally:
        cuda.detach()


_RELEASE = {
    'device': 'cuMemFree_v2',
    'pinned': 'cuMemFreeHost',
    'stream': 'cuStreamDestroy_v2',
    'event': 'cuEventDestroy_v2',
    'graph': 'cuGraphExecDestroy',
}


def array_at(address: int, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return the array that lies at a host address; the memory stays the caller's."""
    size_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = (ctypes.c_uint8 * size_bytes).from_address(address)
    array: NDArray[Any] = np.ctypeslib.as_array(memory).view(dtype).reshape(shape)
    return array
