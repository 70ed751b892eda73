"""Milliseconds on a device, by its own clock."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

WARM_UP = 5


def timed(run: Callable[[], object], device: str, runs: int) -> list[float]:
    """Return the milliseconds of each of `runs` runs, after WARM_UP others."""
    for _ in range(WARM_UP):
        run()
    if torch.device(device).type != 'cuda':
        return [_by_wall_clock(run) for _ in range(runs)]
    torch.cuda.synchronize()
    pairs = []
    for _ in range(runs):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run()
        end.record()
        end.synchronize()  # one frame at a time, as in the node
        pairs.append((begin, end))
    return [begin.elapsed_time(end) for begin, end in pairs]


def _by_wall_clock(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return 1e3 * (time.perf_counter() - started)
