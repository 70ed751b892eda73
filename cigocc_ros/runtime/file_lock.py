"""One builder at a time: a lock that the kernel takes back when its holder dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cigocc_ros.core.errors import EngineError

POLL_S = 0.2


@contextmanager
def file_lock(path: Path, wait: Callable[[str], None]) -> Iterator[None]:
    """Hold `path` locked, as long as it takes; the file stays, for removing it would race.

    `wait(holder)` is called every now and then while another process holds it: it sleeps about
    POLL_S, or raises to give up. Raises EngineError where the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise EngineError(
            f'{path}: cannot be written: {error.strerror}; name a folder that can with '
            '--engine-dir FOLDER (node: tensorrt.engine_dir)'
        ) from error
    try:
        while not _taken(descriptor):
            wait(os.pread(descriptor, 32, 0).decode(errors='replace').strip() or 'unknown')
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f'{os.getpid()}\n'.encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
