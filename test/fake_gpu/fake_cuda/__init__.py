"""The fake driver of libcuda.c: compiling it, loading it, and what tests ask and tell it."""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name('libcuda.c')
FILE_NAME = 'libcuda.so.1'
LOADED = 'FAKE_CUDA_LIBRARY'
"""Environment variable that names the library, for child processes too."""
FLAGS = ('-std=c11', '-Wall', '-Wextra', '-Werror', '-O1', '-shared', '-fPIC', '-pthread')
KINDS = ('', 'stream', 'event', 'graph', 'exec', 'device', 'host')
MOST = 512


def compiler() -> str | None:
    """Return the C compiler, if there is one."""
    return shutil.which('cc') or shutil.which('gcc') or shutil.which('clang')


def compile_driver(folder: Path) -> Path:
    """Compile the driver into a folder; raise CalledProcessError saying what the compiler said."""
    path = folder / FILE_NAME
    command = [str(compiler()), *FLAGS, '-o', str(path), str(SOURCE)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return path


def gpu(
    name: str = 'Fake GPU',
    compute: str = '8.7',
    multiprocessors: int = 16,
    l2_kib: int = 4096,
    memory_mib: int = 62_800,
    bus: int = 1,
) -> str:
    """Return one GPU for the environment variable FAKE_GPUS; the defaults are those of an Orin."""
    return f'{name},{compute},{multiprocessors},{l2_kib},{memory_mib},{bus}'


AGX_ORIN = gpu('Orin', bus=0)
ORIN_NANO = gpu('Orin', multiprocessors=8, l2_kib=2048, memory_mib=7_620, bus=0)
"""One name and one compute capability, and PCI ids of nought (NVIDIA/nvbandwidth#55)."""


class Driver:
    """A loaded driver; its state is its own, for each test loads a copy."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._c = ctypes.CDLL(str(path))
        self._c.fake_call.restype = self._c.fake_violation.restype = ctypes.c_char_p
        self._c.fake_thread.restype = ctypes.c_long
        self._c.fake_most_in_use.restype = ctypes.c_size_t
        self._c.fake_limit.argtypes = [ctypes.c_size_t]
        self._c.fake_live.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int]
        for name in ('fake_recording', 'fake_invalidate'):
            getattr(self._c, name).argtypes = [ctypes.c_void_p]

    @property
    def calls(self) -> list[tuple[str, str]]:
        """(call, name of its thread) in their order."""
        names = {thread.native_id: thread.name for thread in threading.enumerate()}
        return [
            (
                self._c.fake_call(index).decode(),
                names.get(self._c.fake_thread(index), 'a thread that ended'),
            )
            for index in range(self._c.fake_calls())
        ]

    def names(self) -> list[str]:
        """Return the calls in their order."""
        return [name for name, _ in self.calls]

    def threads(self) -> set[str]:
        """Return the names of the threads that called."""
        return {thread for _, thread in self.calls}

    def forget_calls(self) -> None:
        """Start counting again."""
        self._c.fake_forget_calls()

    def record(self, name: str) -> None:
        """Note a call of somebody else among those of the driver."""
        self._c.fake_record(name.encode())

    @property
    def violations(self) -> list[str]:
        """What was called and must never be."""
        return [
            self._c.fake_violation(index).decode() for index in range(self._c.fake_violations())
        ]

    @property
    def memory(self) -> set[int]:
        """Addresses that are allocated, on the device and on the host."""
        return {address for kind, address in self._live() if kind in ('device', 'host')}

    @property
    def handles(self) -> list[str]:
        """Kinds of the streams, events and graphs that live."""
        return sorted(kind for kind, _ in self._live() if kind not in ('device', 'host'))

    def _live(self) -> list[tuple[str, int]]:
        kinds, addresses = (ctypes.c_int * MOST)(), (ctypes.c_void_p * MOST)()
        found = self._c.fake_live(kinds, addresses, MOST)
        return [(KINDS[kinds[i]], addresses[i] or 0) for i in range(found)]

    @property
    def executed(self) -> int:
        """How often work of a stream was done."""
        return int(self._c.fake_executed())

    @property
    def most_bytes(self) -> int:
        """The most memory of the device that was ever in use."""
        return int(self._c.fake_most_in_use())

    def retained(self, device: int = 0) -> int:
        """Return how many hold the primary context of a device, counted as CUDA does."""
        return int(self._c.fake_retained(device))

    def current(self) -> int:
        """Return the GPU that is current in this thread, as CUDA counts them; -1 for none."""
        return int(self._c.fake_current())

    def fail(self, **codes: int) -> None:
        """Let calls return an error from now on; 0 lets them work again."""
        for name, code in codes.items():
            self._c.fake_fail(name.encode(), code)

    def fail_nothing(self) -> None:
        """Let every call work again."""
        self._c.fake_fail_nothing()

    def poison(self, code: int) -> None:
        """Let every call in a context fail for the rest of the process: a sticky error."""
        self._c.fake_poison(code)

    def limit(self, size_bytes: int) -> None:
        """Set how much memory the device has."""
        self._c.fake_limit(size_bytes)

    def version(self, number: int) -> None:
        """Set the version that the driver says, 12060 for CUDA 12.6."""
        self._c.fake_version(number)

    def slow(self, seconds: float) -> None:
        """Let each wait for the GPU take so long."""
        self._c.fake_wait_ms(int(1000 * seconds))

    def block(self) -> Hang:
        """Let the next wait for the GPU take until the answer's `set`."""
        self._c.fake_block()
        return Hang(self)

    def unblock(self) -> None:
        """Let the wait that hangs return."""
        self._c.fake_unblock()

    @property
    def blocked(self) -> bool:
        """Whether a wait hangs."""
        return bool(self._c.fake_blocked())

    def recording(self, stream: int) -> bool:
        """Whether a stream records a graph."""
        return bool(self._c.fake_recording(stream))

    def invalidate(self, stream: int) -> None:
        """Spoil what a stream records, as a call that cannot be recorded does."""
        self._c.fake_invalidate(stream)

    def __getattr__(self, name: str) -> Any:
        """Return a call of the driver, untyped."""
        if not name.startswith('cu'):
            raise AttributeError(name)
        return getattr(self._c, name)


class Hang:
    """A GPU that does not answer until it is told to."""

    def __init__(self, driver: Driver) -> None:
        self.set = driver.unblock


@functools.lru_cache(maxsize=1)
def _driver_at(path: str) -> Driver:
    return Driver(Path(path))


def driver() -> Driver:
    """Return the driver of this process: the one that the environment names."""
    return _driver_at(os.environ[LOADED])
