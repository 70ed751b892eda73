"""The CUDA runtime in host memory: streams that do nothing until somebody waits for them.

Every call is recorded with its thread. `state` makes it fail or hang; what was allocated and not
freed, or freed twice, can be asked for.
"""

import ctypes
import enum
import itertools
import os
import threading
from dataclasses import dataclass, field
from typing import Any

DEVICES = int(os.environ.get('FAKE_CUDA_DEVICES', '1'))
PATIENCE_S = 20.0


class cudaError_t(enum.IntEnum):  # noqa: N801  # the name of the real one
    cudaSuccess = 0
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorInvalidResourceHandle = 400
    cudaErrorIllegalAddress = 700
    cudaErrorStreamCaptureUnsupported = 900


class cudaMemcpyKind(enum.IntEnum):  # noqa: N801
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2


class cudaStreamCaptureMode(enum.IntEnum):  # noqa: N801
    cudaStreamCaptureModeGlobal = 0
    cudaStreamCaptureModeThreadLocal = 1


cudaDeviceScheduleBlockingSync = 4
cudaStreamNonBlocking = 1
cudaEventBlockingSync, cudaEventDisableTiming = 1, 2
cudaHostAllocDefault = 0


@dataclass
class State:
    calls: list[tuple[str, str]] = field(default_factory=list)
    """(call, thread) in their order."""
    memory: dict[int, Any] = field(default_factory=dict)
    handles: dict[int, Any] = field(default_factory=dict)
    """Stream, event and graph handles that live."""
    capturing: dict[int, list[Any]] = field(default_factory=dict)
    fail: dict[str, int] = field(default_factory=dict)
    """Call -> error that it returns from now on."""
    hang: threading.Event | None = None
    """Where set, the next wait for the device takes until this event is set."""
    executed: int = 0

    def names(self) -> list[str]:
        return [name for name, _ in self.calls]

    def threads(self) -> set[str]:
        return {thread for _, thread in self.calls}


state = State()
_numbers = itertools.count(1)


def _recorded(function: Any) -> Any:
    name = function.__name__

    def call(*arguments: Any) -> tuple[Any, ...]:
        state.calls.append((name, threading.current_thread().name))
        if name in state.fail:
            return (cudaError_t(state.fail[name]), None)
        try:
            value = function(*arguments)
        except _Failed as error:
            return (error.args[0], None)
        return (cudaError_t.cudaSuccess,) if value is None else (cudaError_t.cudaSuccess, value)

    return call


class _Failed(Exception):
    pass


def _new(kind: Any) -> int:
    handle = next(_numbers)
    state.handles[handle] = kind
    return handle


def enqueue(stream: int, operation: Any) -> None:
    """What both copies and the fake TensorRT do with their work."""
    if stream in state.capturing:
        state.capturing[stream].append(operation)
    elif stream in state.handles:
        state.handles[stream].append(operation)
    else:
        raise _Failed(cudaError_t.cudaErrorInvalidResourceHandle)


def is_capturing(stream: int) -> bool:
    return stream in state.capturing


@dataclass
class _Properties:
    name: bytes = b'Fake GPU\0\0'
    major: int = 8
    minor: int = 7


@_recorded
def cudaGetDeviceCount():  # noqa: N802
    if not DEVICES:
        raise _Failed(cudaError_t.cudaErrorInsufficientDriver)
    return DEVICES


@_recorded
def cudaGetDeviceProperties(device):  # noqa: N802
    properties = _Properties()
    properties.name = os.environ.get('FAKE_GPU', 'Fake GPU').encode() + b'\0\0'
    return properties


@_recorded
def cudaDriverGetVersion():  # noqa: N802
    return 12060


@_recorded
def cudaRuntimeGetVersion():  # noqa: N802
    return 12080


@_recorded
def cudaSetDevice(device):  # noqa: N802
    return None


@_recorded
def cudaSetDeviceFlags(flags):  # noqa: N802
    assert flags == cudaDeviceScheduleBlockingSync


@_recorded
def cudaGetLastError():  # noqa: N802
    return None


def cudaGetErrorString(code):  # noqa: N802
    return cudaError_t.cudaSuccess, code.name.encode()


@_recorded
def cudaStreamCreateWithFlags(flags):  # noqa: N802
    return _new([])


@_recorded
def cudaEventCreateWithFlags(flags):  # noqa: N802
    assert flags & cudaEventBlockingSync
    return _new({'stream': None})


def _allocate(size: int) -> int:
    memory = (ctypes.c_uint8 * size)(*([0xAA] * min(size, 64)))
    address = ctypes.addressof(memory)
    state.memory[address] = memory
    return address


@_recorded
def cudaMalloc(size):  # noqa: N802
    return _allocate(size)


@_recorded
def cudaHostAlloc(size, flags):  # noqa: N802
    return _allocate(size)


@_recorded
def cudaMemcpyAsync(to, source, size, kind, stream):  # noqa: N802
    for address in (to, source):
        assert len(state.memory[address]) == size, 'a copy past the end'
    enqueue(stream, lambda: ctypes.memmove(to, source, size))


@_recorded
def cudaEventRecord(event, stream):  # noqa: N802
    state.handles[event]['stream'] = stream


@_recorded
def cudaEventSynchronize(event):  # noqa: N802
    hang, state.hang = state.hang, None
    if hang is not None:
        hang.wait(PATIENCE_S)
    pending = state.handles[state.handles[event]['stream']]
    while pending:
        pending.pop(0)()
    state.executed += 1


@_recorded
def cudaStreamBeginCapture(stream, mode):  # noqa: N802
    assert mode == cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
    assert not state.handles[stream], 'capture before the first run was waited for'
    state.capturing[stream] = []


@_recorded
def cudaStreamEndCapture(stream):  # noqa: N802
    if stream not in state.capturing:
        raise _Failed(cudaError_t.cudaErrorStreamCaptureUnsupported)
    return _new(state.capturing.pop(stream))


@_recorded
def cudaGraphInstantiate(graph, flags):  # noqa: N802
    return _new(list(state.handles[graph]))


@_recorded
def cudaGraphLaunch(graph, stream):  # noqa: N802
    for operation in state.handles[graph]:
        enqueue(stream, operation)


def _release(function_name: str, table: str) -> Any:
    def release(handle):
        live = getattr(state, table)
        assert handle in live, f'{function_name}: freed twice, or never made'
        del live[handle]

    release.__name__ = function_name
    return _recorded(release)


cudaFree = _release('cudaFree', 'memory')
cudaFreeHost = _release('cudaFreeHost', 'memory')
cudaStreamDestroy = _release('cudaStreamDestroy', 'handles')
cudaEventDestroy = _release('cudaEventDestroy', 'handles')
cudaGraphDestroy = _release('cudaGraphDestroy', 'handles')
cudaGraphExecDestroy = _release('cudaGraphExecDestroy', 'handles')
