"""What a soak must show: curves that stay flat after the warm-up, counters that add up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

WARM_UP_SHARE, WARM_UP_S = 0.2, 120.0
"""The warm-up: a share of a short run, two minutes at most of a long one."""
GROWTH_MB, GROWTH_SHARE = 8.0, 0.02
SLOWER_SHARE, SLOWER_MS = 0.25, 10.0


@dataclass(frozen=True)
class Check:
    """One line of the verdict. early, late: medians of the first and last third."""

    name: str
    early: float
    late: float
    limit: float
    good: bool


def warm(samples: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the samples after the warm-up."""
    end_s = min(WARM_UP_S, WARM_UP_SHARE * samples[-1]['t_s'])
    return [sample for sample in samples if sample['t_s'] > end_s]


def flatness(samples: Sequence[dict[str, Any]]) -> list[Check]:
    """Return one check for each curve; `samples` are those of a whole run."""
    after = warm(samples)
    checks = [_check(after, 'rss_mb', GROWTH_SHARE, GROWTH_MB)]
    checks += [_check(after, name, 0.0, 0.0) for name in ('threads', 'fds', 'children')]
    names = ('latency_p50_ms', 'latency_p95_ms')
    return checks + [_check(after, name, SLOWER_SHARE, SLOWER_MS) for name in names]


def _check(samples: Sequence[dict[str, Any]], name: str, share: float, more: float) -> Check:
    values = np.array([sample[name] for sample in samples], dtype=np.float64)
    third = max(1, len(values) // 3)
    early, late = (float(np.nanmedian(part)) for part in (values[:third], values[-third:]))
    limit = early * (1 + share) + more
    return Check(name, round(early, 2), round(late, 2), round(limit, 2), bool(late <= limit))


def accounts(result: dict[str, Any]) -> dict[str, int]:
    """Return the counters of a run; `unaccounted` of a good one is 0, and so is `in flight`."""
    names = (
        'frames in',
        'lost before the node',
        'processed',
        'replaced by a newer frame',
        'dropped',
        'in flight',
    )
    counts = {name: int(result['report'].get(name, '0')) for name in names}
    known = counts['lost before the node'] + sum(counts[name] for name in names[2:])
    return {
        'sent': result['sent'],
        **counts,
        'clouds heard': result['heard'],
        'unaccounted': result['sent'] - known,
    }
