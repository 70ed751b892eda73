"""Segments of Fast DDS in /dev/shm whose process is dead: a node that is killed leaves 70 MB.

A process holds the lock of `fastrtps_ID_el` as long as it owns the segment `fastrtps_ID`; the
kernel takes it back. This is what `fastdds shm clean` does, for machines without that tool.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from pathlib import Path

SHARED_MEMORY = Path('/dev/shm')
LOCK_NAME = re.compile(r'((?:fastrtps|fastdds)_[0-9a-f]{16})_el')  # Fast DDS 2, 3
MIN_AGE_S = 60.0
"""A younger one may belong to a process that has not locked it yet."""


def remove_orphans(folder: Path = SHARED_MEMORY, min_age_s: float = MIN_AGE_S) -> int:
    """Remove segments of this user that nobody owns any more; return their bytes."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return 0  # no shared memory here: nothing to remove
    found = [match for match in map(LOCK_NAME.fullmatch, names) if match is not None]
    return sum(_removed(folder / match[1], folder / match[0], min_age_s) for match in found)


def _removed(segment: Path, lock: Path, min_age_s: float) -> int:
    """Remove a segment and its lock where it is an orphan; return its bytes, else 0."""
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return 0  # gone, or of another user
    try:
        status = os.fstat(descriptor)
        if status.st_uid != os.geteuid() or time.time() - status.st_mtime < min_age_s:
            return 0
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        size = segment.lstat().st_size if segment.exists() else 0
        segment.unlink(missing_ok=True)
        lock.unlink(missing_ok=True)
        return size
    except OSError:
        return 0  # BlockingIOError: its process lives
    finally:
        os.close(descriptor)
