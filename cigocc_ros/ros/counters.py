"""What the node counts: frames by fate, latency, the last error. Written by two threads."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from statistics import median

import numpy as np

LATENCY_WINDOW = 200
KEPT_INTERVALS = 5
DOUBT_S = 5.0
"""How long a doubt is reported after the last frame that raised it."""


@dataclass(frozen=True)
class Snapshot:
    """The counters at one moment; times in milliseconds, ages in seconds."""

    frames_in: int
    processed: int
    replaced: int
    dropped: dict[str, int]
    prior_used: int
    prior_failed: dict[str, int]
    semantic_used: int
    semantic_failed: dict[str, int]
    semantic_shares: tuple[tuple[float, float], ...]
    """Of the last label images: pixels with a class, and with ids that the set does not have."""
    stamp_faults: dict[str, int]
    doubts: dict[str, str]
    lost: int
    processing_ms: tuple[float, ...]
    pipeline_ms: tuple[float, ...]
    last_error: str
    last_error_age_s: float | None
    last_image_age_s: float | None
    image_interval_s: float = 0.0
    """Between the last images, as a rule; 0 before the second."""

    @property
    def in_flight(self) -> int:
        """Images that wait or are worked on: every other one is processed, replaced or dropped."""
        return self.frames_in - self.processed - self.replaced - sum(self.dropped.values())


def percentile(values: tuple[float, ...], share: float) -> float:
    """Return a percentile, NaN without values."""
    return float(np.percentile(values, share)) if values else float('nan')


@dataclass
class Counters:
    """Thread-safe counters of one node."""

    frames_in: int = 0
    processed: int = 0
    replaced: int = 0
    prior_used: int = 0
    semantic_used: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    prior_failed: Counter[str] = field(default_factory=Counter)
    semantic_failed: Counter[str] = field(default_factory=Counter)
    stamp_faults: Counter[str] = field(default_factory=Counter)
    doubts: dict[str, tuple[float, str]] = field(default_factory=dict)
    lost: int = 0
    last_error: str = ''
    _last_error_s: float | None = None
    _last_image_s: float | None = None
    _intervals_s: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT_INTERVALS))
    _processing_ms: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCY_WINDOW))
    _pipeline_ms: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCY_WINDOW))
    _semantic_shares: deque[tuple[float, float]] = field(
        default_factory=lambda: deque(maxlen=LATENCY_WINDOW)
    )
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add_image(self, stamp_fault: str = '') -> None:
        """Count an image that arrived, and what is wrong with its stamp."""
        with self._lock:
            self.frames_in += 1
            now_s = time.monotonic()
            if self._last_image_s is not None:
                self._intervals_s.append(now_s - self._last_image_s)
            self._last_image_s = now_s
            if stamp_fault:
                self.stamp_faults[stamp_fault] += 1

    def add_lost(self, count: int) -> None:
        """Count images that were published but did not arrive: not in `frames_in`."""
        with self._lock:
            self.lost += count

    def add_replaced(self) -> None:
        """Count an image that a newer one replaced before it was looked at."""
        with self._lock:
            self.replaced += 1

    def add_dropped(self, reason: str, message: str) -> None:
        """Count an image that could not be used."""
        with self._lock:
            self.dropped[reason] += 1
            self._note(f'{reason}: {message}')

    def add_prior(self, failed_reason: str = '', message: str = '') -> None:
        """Count a depth prior that was used, or that could not be, with its reason."""
        with self._lock:
            if failed_reason:
                self.prior_failed[failed_reason] += 1
                self._note(f'prior, {failed_reason}: {message}')
            else:
                self.prior_used += 1

    def add_semantics(self, known_share: float, foreign_share: float) -> None:
        """Count a label image that was used, and how many of its pixels say something."""
        with self._lock:
            self.semantic_used += 1
            self._semantic_shares.append((known_share, foreign_share))

    def add_semantics_failed(self, reason: str, message: str) -> None:
        """Count a frame that goes without the label image it should have."""
        with self._lock:
            self.semantic_failed[reason] += 1
            self._note(f'semantic prior, {reason}: {message}')

    def add_doubt(self, name: str, text: str) -> bool:
        """Note what may be wrong with a frame that is used; return whether it is news."""
        with self._lock:
            _, before = self.doubts.get(name, (0.0, ''))
            self.doubts[name] = time.monotonic(), text
            return text != before

    def add_processed(self, processing_ms: float, pipeline_ms: float | None) -> None:
        """Count an image whose output was published; None where its stamp gives no latency."""
        with self._lock:
            self.processed += 1
            self._processing_ms.append(processing_ms)
            if pipeline_ms is not None:
                self._pipeline_ms.append(pipeline_ms)

    def snapshot(self) -> Snapshot:
        """Return a consistent copy."""
        with self._lock:
            return Snapshot(
                frames_in=self.frames_in,
                processed=self.processed,
                replaced=self.replaced,
                dropped=dict(self.dropped),
                prior_used=self.prior_used,
                prior_failed=dict(self.prior_failed),
                semantic_used=self.semantic_used,
                semantic_failed=dict(self.semantic_failed),
                semantic_shares=tuple(self._semantic_shares),
                stamp_faults=dict(self.stamp_faults),
                doubts=self._recent_doubts(),
                lost=self.lost,
                processing_ms=tuple(self._processing_ms),
                pipeline_ms=tuple(self._pipeline_ms),
                last_error=self.last_error,
                last_error_age_s=_age(self._last_error_s),
                last_image_age_s=_age(self._last_image_s),
                image_interval_s=median(self._intervals_s) if self._intervals_s else 0.0,
            )

    def _recent_doubts(self) -> dict[str, str]:
        now_s = time.monotonic()
        noted = sorted(self.doubts.items())
        return {name: text for name, (at_s, text) in noted if now_s - at_s < DOUBT_S}

    def _note(self, message: str) -> None:
        self.last_error = message
        self._last_error_s = time.monotonic()


def _age(moment_s: float | None) -> float | None:
    return None if moment_s is None else time.monotonic() - moment_s
