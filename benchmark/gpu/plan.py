"""Steps in processes of their own, within a budget of time; one that fails costs only itself."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

Save = Callable[[dict[str, Any]], None]

logger = logging.getLogger(__name__)
OK, FAILED, LATE, ABSENT, NOT_STARTED = 'ok', 'failed', 'cut short', 'not here', 'no time left'
ABSENT_CODE = 3
"""Exit status of a step for which this machine lacks something; stderr ends with what."""
TAIL_LINES = 12


class AbsentError(Exception):
    """This machine lacks what a step is about; the message says what."""


@dataclass(frozen=True)
class Step:
    """A line of the list: `words` go to `benchmark.gpu.child`."""

    name: str
    words: tuple[str, ...]
    least_s: float
    """Time without which it is not worth to start."""
    python: str = sys.executable


@dataclass(frozen=True)
class Outcome:
    """What became of a step; a step that ended badly keeps what it had measured until then."""

    name: str
    status: str
    reason: str
    seconds: float
    found: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def run_plan(
    steps: Sequence[Step], folder: Path, budget_s: float, save: Callable[[list[Outcome]], None]
) -> list[Outcome]:
    """Run the steps one after another; `save` gets all outcomes after each."""
    folder.mkdir(parents=True, exist_ok=True)
    ends_s, outcomes = time.monotonic() + budget_s, list[Outcome]()
    for step in steps:
        left_s = ends_s - time.monotonic()
        if left_s < step.least_s:
            reason = f'{left_s:.0f} s left, at least {step.least_s:.0f} s needed'
            outcomes.append(Outcome(step.name, NOT_STARTED, reason, 0.0, {}))
        else:
            logger.info('%s, %.0f s left', step.name, left_s)
            outcomes += _with_parts(_run(step, folder, left_s))
        logger.info('%s: %s %s', step.name, outcomes[-1].status, outcomes[-1].reason)
        save(outcomes)
    return outcomes


def _run(step: Step, folder: Path, timeout_s: float) -> Outcome:
    result = folder / f'{step.name.replace(" ", "_")}.json'
    result.unlink(missing_ok=True)
    words = [step.python, '-m', 'benchmark.gpu.child', *step.words]
    words += [f'--left-s={timeout_s:.0f}', f'--result={result}']
    started_s = time.monotonic()
    try:
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env={**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, _paths()))},
        )
        status, reason = _judged(done)
    except subprocess.TimeoutExpired:
        status, reason = LATE, f'stopped after {timeout_s:.0f} s'
    except OSError as error:
        status, reason = ABSENT, str(error)
    found = json.loads(result.read_text()) if result.is_file() else {}
    return Outcome(step.name, status, reason, round(time.monotonic() - started_s, 1), found)


def _with_parts(outcome: Outcome) -> list[Outcome]:
    """Return the outcomes of a step's parts, where it has some, then its own."""
    parts = outcome.found.pop('parts', [])
    ended = {'status': outcome.status, 'reason': outcome.reason, 'seconds': 0.0}
    return [*(Outcome(**{**ended, **part}) for part in parts), outcome]


def _paths() -> list[str]:
    """Return where a child finds this repository, before what PYTHONPATH says already."""
    return [str(Path(__file__).resolve().parents[2]), os.environ.get('PYTHONPATH', '')]


def _judged(done: subprocess.CompletedProcess[str]) -> tuple[str, str]:
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    if done.returncode == 0:
        return OK, ''
    if done.returncode == ABSENT_CODE:
        return ABSENT, lines[-1] if lines else ''
    tail = '\n'.join(lines[-TAIL_LINES:])
    return FAILED, f'exit status {done.returncode}: {tail}'
