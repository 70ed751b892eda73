"""How far a build is: TensorRT's nested phases as one share, and a line that a parent can read."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.typed_yaml import from_mapping
from cigocc_ros.core.yaml_json import parse_json

MIN_SHARE_FOR_ETA = 0.02
"""Below it an estimate would be wild."""


@dataclass(frozen=True)
class BuildProgress:
    """share: 0..1 done; phase: TensorRt's name of it; eta_s: seconds left, None if unknown."""

    phase: str
    share: float
    elapsed_s: float
    eta_s: float | None = None

    def __str__(self) -> str:
        """Return e.g. `43 % after 61 s, about 80 s left (Tactics)`."""
        left = '' if self.eta_s is None else f', about {self.eta_s:.0f} s left'
        return f'{100 * self.share:.0f} % after {self.elapsed_s:.0f} s{left} ({self.phase})'

    def to_line(self) -> str:
        """Return it as one line of JSON."""
        return json.dumps({'progress': asdict(self)})


def progress_from_line(line: str) -> BuildProgress | None:
    """Return what `to_line` wrote, None for any other line."""
    if not line.startswith('{"progress"'):
        return None
    try:
        return from_mapping(BuildProgress, parse_json(line, 'progress')['progress'], 'progress')
    except (KeyError, ConfigError):
        return None


@dataclass
class _Phase:
    parent: str | None
    steps: int
    done: int = 0


@dataclass
class PhaseTracker:
    """Turn phase callbacks, which come from several threads, into progress that never falls.

    A phase counts as a part of its parent's current step. Phases without a parent follow each
    other, and how many come is unknown: each takes half of what is left until the last.
    """

    now_s: Callable[[], float] = time.monotonic
    _phases: dict[str, _Phase] = field(default_factory=dict)
    _share: float = 0.0
    _finished: float = 0.0
    _started_s: float | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, name: str, parent: str | None, steps: int) -> BuildProgress:
        """Note that a phase of so many steps begins."""
        with self._lock:
            self._phases[name] = _Phase(parent, max(1, steps))
            return self._progress(name)

    def step(self, name: str, step: int) -> BuildProgress:
        """Note that step number `step`, counted from 0, is done."""
        with self._lock:
            phase = self._phases.get(name)
            if phase is not None:
                phase.done = max(phase.done, min(step + 1, phase.steps))
            return self._progress(name)

    def finish(self, name: str) -> BuildProgress:
        """Note that a phase is over."""
        with self._lock:
            phase = self._phases.pop(name, None)
            if phase is not None and phase.parent is None:
                self._finished += 0.5 * (1.0 - self._finished)
            return self._progress(name)

    def _progress(self, name: str) -> BuildProgress:
        now = self.now_s()
        if self._started_s is None:
            self._started_s = now
        elapsed_s = now - self._started_s
        roots = [key for key, phase in self._phases.items() if phase.parent is None]
        running = max((self._done(root) for root in roots), default=0.0)
        left = 1.0 - self._finished
        # The first root is nearly all of a build; what follows it is short.
        self._share = max(self._share, self._finished + running * left * 0.99)
        eta_s = None
        if self._share >= MIN_SHARE_FOR_ETA:
            eta_s = elapsed_s * (1.0 - self._share) / self._share
        return BuildProgress(name, self._share, elapsed_s, eta_s)

    def _done(self, name: str) -> float:
        """Return the share of a phase that is done, its running children included."""
        phase = self._phases[name]
        children = [key for key, child in self._phases.items() if child.parent == name]
        inside = max((self._done(child) for child in children), default=0.0)
        return min(1.0, (phase.done + inside) / phase.steps)
