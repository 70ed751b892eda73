"""Bring the messages of a frame together by stamp, without blocking: the state of what waits.

An image waits for its CameraInfo, where none is known yet, and for its depth or right image, where
one can be expected. At most one image waits; a newer one lets it go as it is.
"""

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

IMAGE = 'image'
"""The camera itself, beside the kinds of priors, as the owner of a CameraInfo."""
# In mode auto, a source is waited for while it was heard this recently, by the clock or by stamps:
# a bag played slowly leaves more time between messages than between their stamps.
LIVE_S = 1.0
KEPT_MESSAGES = 8
INFO_WAIT_S = 0.1
"""How long the first image waits for its CameraInfo, which many drivers publish after it."""


@dataclass(frozen=True)
class Bundle:
    """The messages of one frame. prior_kind: what was expected, DEPTH, STEREO or NONE.

    prior_info: the CameraInfo of the right image or of the depth image, where one was heard.
    """

    image: AnyImage
    info: CameraInfo | None = None
    prior_kind: str = NONE
    prior: AnyImage | None = None
    prior_info: CameraInfo | None = None

    @property
    def complete(self) -> bool:
        """Whether nothing is missing that could still come."""
        if self.info is None:
            return False
        if self.prior_kind == NONE:
            return True
        stereo_needs = self.prior_kind == STEREO and self.prior_info is None
        return self.prior is not None and not stereo_needs


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
    """Hold back at most one image until its messages are there; used from one thread."""

    def __init__(
        self,
        source: str,
        tolerance_s: float,
        wait_s: float = INFO_WAIT_S,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the parameters prior.source, prior.tolerance_s and prior.wait_s."""
        self._wanted = source
        self._tolerance_ns = round(tolerance_s * 1e9)
        self._prior_wait_s, self._now_s = wait_s, now_s
        self._sources = {DEPTH: _Source(), STEREO: _Source()}
        self._infos: dict[str, CameraInfo] = {}
        self._pending: Bundle | None = None

    @property
    def wait_s(self) -> float | None:
        """How long the image that is held back may wait from its arrival; None where none is."""
        if self._pending is None:
            return None
        for_info = INFO_WAIT_S if self._pending.info is None else 0.0
        for_prior = 0.0 if self._pending.prior_kind == NONE else self._prior_wait_s
        return max(for_info, for_prior)

    def expected(self, stamp_ns: int) -> str:
        """Return the kind of prior that the image of a stamp should get."""
        if self._wanted != AUTO:
            return self._wanted
        now = self._now_s()
        live = [kind for kind, source in self._sources.items() if source.is_live(now, stamp_ns)]
        return live[0] if live else NONE

    def add_info(self, owner: str, info: CameraInfo) -> list[Bundle]:
        """Take the CameraInfo of IMAGE, STEREO or DEPTH; return what this completes."""
        self._infos[owner] = info
        return self._released()

    def add_image(self, image: AnyImage) -> list[Bundle]:
        """Take an image; return the bundles that are ready, oldest first."""
        ready = self.flush()
        kind = self.expected(stamp_to_ns(image.header.stamp))
        # the CameraInfo of its arrival: a later one may be of the next image
        self._pending = Bundle(image, self._infos.get(IMAGE), kind)
        return [*ready, *self._released()]

    def add_prior(self, kind: str, message: AnyImage) -> list[Bundle]:
        """Take a depth or right image; return the held-back image if this completes it."""
        source = self._sources[kind]
        source.messages.append((stamp_to_ns(message.header.stamp), message))
        source.seen_s = self._now_s()
        return self._released()

    def flush(self) -> list[Bundle]:
        """Return the held-back image, if any, with what there is."""
        ready = [] if self._pending is None else [self._filled(self._pending)]
        self._pending = None
        return ready

    def _released(self) -> list[Bundle]:
        if self._pending is None:
            return []
        self._pending = self._filled(self._pending)
        return self.flush() if self._pending.complete else []

    def _filled(self, bundle: Bundle) -> Bundle:
        """Return the bundle with what arrived for it meanwhile."""
        info = bundle.info or self._infos.get(IMAGE)
        if bundle.prior_kind == NONE:
            return bundle if info is bundle.info else replace(bundle, info=info)
        stamp_ns = stamp_to_ns(bundle.image.header.stamp)
        found: Any = self._sources[bundle.prior_kind].nearest(stamp_ns, self._tolerance_ns)
        of_prior = self._infos.get(bundle.prior_kind)
        return replace(bundle, info=info, prior=found, prior_info=of_prior)
