"""Bring an image together with its depth image or right image by stamp, without blocking."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from sensor_msgs.msg import CameraInfo

from cigocc_ros.core.prior import AUTO, DEPTH, NONE, STEREO
from cigocc_ros.ros.input.images import AnyImage
from cigocc_ros.ros.stamps import stamp_to_ns

# In mode auto, a source is waited for while it was heard this recently, by the clock or by stamps:
# a bag played slowly leaves more time between messages than between their stamps.
LIVE_S = 1.0
KEPT_MESSAGES = 8


@dataclass(frozen=True)
class Bundle:
    """The messages of one frame. prior_kind: what was expected, DEPTH, STEREO or NONE."""

    image: AnyImage
    info: CameraInfo | None = None
    prior_kind: str = NONE
    prior: AnyImage | None = None
    right_info: CameraInfo | None = None


class _Source:
    """The latest messages of one prior topic."""

    def __init__(self) -> None:
        self.messages: deque[tuple[int, AnyImage]] = deque(maxlen=KEPT_MESSAGES)
        self.seen_s = float('-inf')

    def is_live(self, now_s: float, stamp_ns: int) -> bool:
        """Say whether the next message of this source can be expected for an image."""
        if now_s - self.seen_s <= LIVE_S:
            return True
        return any(abs(stamp - stamp_ns) <= LIVE_S * 1e9 for stamp, _ in self.messages)

    def nearest(self, stamp_ns: int, tolerance_ns: int) -> AnyImage | None:
        """Return the message nearest to a stamp, None where none is within the tolerance."""
        candidates = [(abs(stamp - stamp_ns), message) for stamp, message in self.messages]
        gap, message = min(candidates, key=lambda pair: pair[0], default=(None, None))
        return message if gap is not None and gap <= tolerance_ns else None


class Pairing:
    """Hold back at most one image until its prior is there; used from one thread."""

    def __init__(
        self,
        source: str,
        tolerance_s: float,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the parameter prior.source and the largest difference of stamps."""
        self._wanted = source
        self._tolerance_ns = round(tolerance_s * 1e9)
        self._now_s = now_s
        self._sources = {DEPTH: _Source(), STEREO: _Source()}
        self._pending: Bundle | None = None

    @property
    def waiting(self) -> bool:
        """Whether an image is held back."""
        return self._pending is not None

    def expected(self, stamp_ns: int) -> str:
        """Return the kind of prior that the image of a stamp should get."""
        if self._wanted != AUTO:
            return self._wanted
        now = self._now_s()
        live = [kind for kind, source in self._sources.items() if source.is_live(now, stamp_ns)]
        return live[0] if live else NONE

    def add_image(self, bundle: Bundle) -> list[Bundle]:
        """Take an image without prior; return the bundles that are ready, oldest first."""
        ready = self.flush()
        kind = self.expected(stamp_to_ns(bundle.image.header.stamp))
        bundle = replace(bundle, prior_kind=kind)
        if kind == NONE:
            return [*ready, bundle]
        self._pending = self._completed(bundle)
        return ready if self._pending.prior is None else [*ready, *self.flush()]

    def add_prior(self, kind: str, message: AnyImage) -> list[Bundle]:
        """Take a depth or right image; return the held-back image if this completes it."""
        source = self._sources[kind]
        source.messages.append((stamp_to_ns(message.header.stamp), message))
        source.seen_s = self._now_s()
        if self._pending is None or self._pending.prior_kind != kind:
            return []
        self._pending = self._completed(self._pending)
        return [] if self._pending.prior is None else self.flush()

    def flush(self) -> list[Bundle]:
        """Return the held-back image, if any, as it is."""
        ready = [] if self._pending is None else [self._pending]
        self._pending = None
        return ready

    def _completed(self, bundle: Bundle) -> Bundle:
        stamp_ns = stamp_to_ns(bundle.image.header.stamp)
        found: Any = self._sources[bundle.prior_kind].nearest(stamp_ns, self._tolerance_ns)
        return replace(bundle, prior=found)
