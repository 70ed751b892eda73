"""What one process measures of one network, part by part: it pays for its imports once.

A part that fails or finds no time left costs only itself; what was measured is saved after each.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch

from benchmark.gpu.device import measure_device
from benchmark.gpu.floor import count_stages
from benchmark.gpu.latency import COMPILED, EAGER, GRAPH, measure_latency
from benchmark.gpu.numerics import compare_precisions
from benchmark.gpu.plan import ABSENT, FAILED, NOT_STARTED, OK, AbsentError, Save

Found = dict[str, Any]


class Part(NamedTuple):
    """A named measurement; it is not begun with less time left than `least_s`."""

    run: Callable[[argparse.Namespace, Save], None]
    least_s: float


def _whole(measure: Callable[[argparse.Namespace], Found]) -> Part:
    return Part(lambda args, save: save(measure(args)), 2)


def _latency(precision: str, *modes: str, stages: bool, least_s: float) -> Part:
    run = partial(measure_latency, precision=precision, modes=modes, stages=stages)
    return Part(run, least_s)


PARTS: dict[str, Part] = {
    'device': _whole(lambda args: measure_device(args.device)),
    'floor': _whole(lambda args: count_stages(args.config)),
    'torch fp16': _latency('fp16', EAGER, GRAPH, stages=True, least_s=5),
    'numerics': _whole(compare_precisions),
    'compiled fp16 whole': _latency('fp16', COMPILED, stages=False, least_s=25),
    'torch fp32': _latency('fp32', EAGER, GRAPH, stages=True, least_s=5),
    'compiled fp16 stages': _latency('fp16', COMPILED, stages=True, least_s=40),
}
"""By name, the most wanted first."""


def run_parts(args: argparse.Namespace, save: Save) -> None:
    """Run the parts of `args.parts` within `args.left_s`; save all outcomes after each."""
    ends_s = time.monotonic() + args.left_s
    outcomes: list[Found] = []
    for name in args.parts:
        outcome: Found = {'name': _title(name, args.config), 'found': {}}
        outcomes.append(outcome)
        save({'parts': outcomes})  # what runs when the process is ended is named

        def keep(found: Found, outcome: Found = outcome) -> None:
            outcome['found'] = found
            save({'parts': outcomes})

        started_s = time.monotonic()
        outcome['status'], outcome['reason'] = _tried(PARTS[name], args, keep, ends_s - started_s)
        outcome['seconds'] = round(time.monotonic() - started_s, 1)
        save({'parts': outcomes})


def _title(part: str, config: str) -> str:
    """Return the part's name with the network behind its first word: `torch mid fp16`."""
    if part == 'device':
        return part
    first, _, rest = part.partition(' ')
    return f'{first} {config} {rest}'.rstrip()


def _tried(part: Part, args: argparse.Namespace, keep: Save, left_s: float) -> tuple[str, str]:
    """Run a part; return its status and the reason of one that is not good."""
    if left_s < part.least_s:
        return NOT_STARTED, f'{left_s:.0f} s left, at least {part.least_s:.0f} s needed'
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        part.run(args, keep)
    except AbsentError as error:
        return ABSENT, str(error)
    except Exception as error:  # torch raises whatever a compiler or driver says
        return FAILED, f'{type(error).__name__}: {error}'
    return OK, ''
