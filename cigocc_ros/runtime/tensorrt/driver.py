"""The CUDA driver, called directly: the functions used here, and what mends their errors.

`libcuda.so.1` comes with the driver on desktops, servers and Jetsons and has this one name for
CUDA 11, 12 and 13, so that no Python package has to match it. ctypes lets other threads run during
a call. Names and signatures are those of NVIDIA's `cuda.h` (11.7 and 13.0 compared), where macros
append the `_v2`; `cuDeviceGetUuid_v2` and `cuGraphInstantiateWithFlags` are of 11.4, the others
older (versions: the table of `cuGetProcAddress` calls in NVIDIA's cuda-python).
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_uint, c_uint64, c_ulonglong, c_void_p
from typing import Any

from cigocc_ros.core.errors import EngineError

LIBRARY = 'libcuda.so.1'
OLDEST = '11.4'
NO_DRIVER = (
    "install NVIDIA's driver (a Jetson has it), start containers with --gpus all (Jetson: "
    '--runtime nvidia), or use backend onnxruntime'
)
UUID_BYTES = 16

_HANDLE, _OUT, _DEVICE_POINTER, _DEVICE = c_void_p, POINTER(c_void_p), c_uint64, c_int
_ANSWERS = {POINTER(kind): kind for kind in (c_void_p, c_uint64, c_size_t, c_int)}
_SIGNATURES: dict[str, tuple[Any, ...]] = {
    'cuGetErrorName': (c_int, POINTER(c_char_p)),
    'cuGetErrorString': (c_int, POINTER(c_char_p)),
    'cuInit': (c_uint,),
    'cuDriverGetVersion': (POINTER(c_int),),
    'cuDeviceGetCount': (POINTER(c_int),),
    'cuDeviceGet': (POINTER(c_int), c_int),
    'cuDeviceGetName': (c_char_p, c_int, _DEVICE),
    'cuDeviceGetUuid_v2': (c_void_p, _DEVICE),
    'cuDeviceTotalMem_v2': (POINTER(c_size_t), _DEVICE),
    'cuDeviceGetAttribute': (POINTER(c_int), c_int, _DEVICE),
    'cuDevicePrimaryCtxSetFlags_v2': (_DEVICE, c_uint),
    'cuDevicePrimaryCtxRetain': (_OUT, _DEVICE),
    'cuDevicePrimaryCtxRelease_v2': (_DEVICE,),
    'cuCtxSetCurrent': (_HANDLE,),
    'cuMemAlloc_v2': (POINTER(_DEVICE_POINTER), c_size_t),
    'cuMemFree_v2': (_DEVICE_POINTER,),
    'cuMemHostAlloc': (_OUT, c_size_t, c_uint),
    'cuMemFreeHost': (c_void_p,),
    'cuMemcpyHtoDAsync_v2': (_DEVICE_POINTER, c_void_p, c_size_t, _HANDLE),
    'cuMemcpyDtoHAsync_v2': (c_void_p, _DEVICE_POINTER, c_size_t, _HANDLE),
    'cuStreamCreate': (_OUT, c_uint),
    'cuStreamDestroy_v2': (_HANDLE,),
    'cuStreamBeginCapture_v2': (_HANDLE, c_int),
    'cuStreamEndCapture': (_HANDLE, _OUT),
    'cuEventCreate': (_OUT, c_uint),
    'cuEventDestroy_v2': (_HANDLE,),
    'cuEventRecord': (_HANDLE, _HANDLE),
    'cuEventSynchronize': (_HANDLE,),
    'cuGraphInstantiateWithFlags': (_OUT, _HANDLE, c_ulonglong),
    'cuGraphDestroy': (_HANDLE,),
    'cuGraphExecDestroy': (_HANDLE,),
    'cuGraphLaunch': (_HANDLE, _HANDLE),
}
_CURES = {
    2: 'close what else uses the memory of the GPU (nvidia-smi; tegrastats on a Jetson)',
    34: "this is the toolkit's stub: take its folder `stubs` out of LD_LIBRARY_PATH",
    46: 'another process has the GPU for itself: see `nvidia-smi -q -d COMPUTE`',
    100: 'look at nvidia-smi and CUDA_VISIBLE_DEVICES; start containers with --gpus all',
    101: 'look at nvidia-smi and CUDA_VISIBLE_DEVICES',
    304: 'this user may not open /dev/nvidia* (Jetson: join the groups video and render)',
    802: 'start nvidia-fabricmanager',
    803: 'driver and kernel module are of different releases: restart the machine',
    804: 'take the folder of cuda-compat out of LD_LIBRARY_PATH',
    999: 'load the kernel module (`sudo modprobe nvidia_uvm`) and look at dmesg',
}
"""CUresult -> what to do about it; the codes are those of cuda.h."""
_SPOILED = (700, 702, 709, 710, 714, 715, 716, 717, 718, 719)
"""Errors of a kernel, of which cuda.h says that the process must be relaunched."""
_SPOILED_CURE = 'CUDA recovers from this in a new process only; look at dmesg for Xid lines'


class CudaError(EngineError):
    """A call of the driver failed, or there is none; `code` is its CUresult, 0 without a call."""

    def __init__(self, message: str, code: int = 0) -> None:
        """Take what people read and the code."""
        super().__init__(message)
        self.code = code


class Driver:
    """The loaded and initialised driver; calls raise CudaError instead of returning codes."""

    def __init__(self) -> None:
        """Load it; raise CudaError where there is none, none that works, or an old one."""
        try:
            library = ctypes.CDLL(LIBRARY)
        except OSError as error:
            raise CudaError(f'no CUDA driver ({error}): {NO_DRIVER}') from error
        self._functions = {name: _function(library, name) for name in _SIGNATURES}
        self('cuInit', 0)

    def __call__(self, name: str, *arguments: Any) -> None:
        """Call a function of `cuda.h`; other threads of Python run meanwhile."""
        code = self._functions[name](*arguments)
        if code != 0:
            raise CudaError(f'{name}: {self._text(code)}', code)

    def made(self, name: str, *arguments: Any) -> int:
        """Call a function without the pointer that takes its answer; return that number."""
        place = next(i for i, kind in enumerate(_SIGNATURES[name]) if kind in _ANSWERS)
        answer = _ANSWERS[_SIGNATURES[name][place]]()
        self(name, *arguments[:place], ctypes.byref(answer), *arguments[place:])
        return int(answer.value or 0)

    def version(self) -> str:
        """Return the newest CUDA that this driver knows, e.g. 12.6."""
        number = self.made('cuDriverGetVersion')
        return f'{number // 1000}.{number % 1000 // 10}'

    def _text(self, code: int) -> str:
        words = [self._described(name, code) for name in ('cuGetErrorName', 'cuGetErrorString')]
        cure = _CURES.get(code, _SPOILED_CURE if code in _SPOILED else '')
        known = ', '.join(filter(None, words)) or 'unknown to this driver'
        return f'CUDA error {code}, {known}' + (f': {cure}' if cure else '')

    def _described(self, name: str, code: int) -> str:
        text = c_char_p()
        self._functions[name](code, ctypes.byref(text))
        return (text.value or b'').decode(errors='replace')


def _function(library: ctypes.CDLL, name: str) -> Any:
    try:
        function = getattr(library, name)
    except AttributeError as error:
        raise CudaError(
            f'{LIBRARY} has no {name}: the driver is older than CUDA {OLDEST}, update it'
        ) from error
    function.argtypes, function.restype = _SIGNATURES[name], c_int
    return function
