"""Time several ways of doing the same, turn by turn, so that a busy moment hits all of them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

OTHER = 'proposals and the rest'
STAGE = re.compile(r'@([^@]+)@')
"""How the nodes of a staged file are named, and the stage of the others."""
Case = Callable[[], object]
WARM_UP_ROUNDS = 2


def interleaved(cases: Mapping[str, Case], rounds: int) -> dict[str, list[float]]:
    """Return milliseconds per case; every round runs each case once, after WARM_UP_ROUNDS."""
    times: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(WARM_UP_ROUNDS + rounds):
        for name, run in cases.items():
            started = time.perf_counter()
            run()
            elapsed_ms = 1e3 * (time.perf_counter() - started)
            if turn >= WARM_UP_ROUNDS:
                times[name].append(elapsed_ms)
    return times


def summary(times_ms: Sequence[float]) -> dict[str, Any]:
    """Return median, 95th and 99th percentile, least and count of at least one time."""
    median, p95, p99 = np.percentile(times_ms, [50, 95, 99])
    numbers = {'median_ms': median, 'p95_ms': p95, 'p99_ms': p99, 'min_ms': min(times_ms)}
    rounded = {name: round(float(value), 3) for name, value in numbers.items()}
    return {**rounded, 'count': len(times_ms)}
