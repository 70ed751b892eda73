"""Worker processes that start clean."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor


def process_pool(workers: int) -> ProcessPoolExecutor:
    """Return a pool of fresh processes, not forks.

    A fork of a process whose torch or OpenCV threads have run can wait for ever for a lock that
    one of them held.
    """
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context('spawn'))
