"""Bring the messages of a frame together by stamp, without blocking: the state of what waits.

An image waits for its CameraInfo, where none is known yet, for its depth or right image, where one
can be expected, and for its label image. Depth and labels may be made by another network, which
answers when newer images are there already: several images wait, each for its own time. One that
has everything does not wait for the older ones: they go with it, as they are.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from sensor_msgs.msg import CameraInfo, Image

from cigocc_ros.core.prior import AUTO, DEPTH, NONE, STEREO
from cigocc_ros.ros.input.images import AnyImage
from cigocc_ros.ros.stamps import stamp_to_ns

IMAGE = 'image'
"""The camera itself, beside the kinds of priors, as the owner of a CameraInfo."""
# In mode auto, a source is waited for while it was heard this recently, by the clock or by stamps:
# a bag played slowly leaves more time between messages than between their stamps.
LIVE_S = 1.0
KEPT_MESSAGES = 8
MOST_WAITING = 16
"""Images; half a second of 30 Hz. One more lets the oldest go."""
INFO_WAIT_S = 0.1
"""How long the first image waits for its CameraInfo, which many drivers publish after it."""


class Patience(NamedTuple):
    """How far stamps may lie apart, and how long an image waits, in seconds."""

    tolerance_s: float
    wait_s: float


@dataclass(frozen=True)
class Bundle:
    """The messages of one frame. prior_kind: what was expected, DEPTH, STEREO or NONE.

    prior_info: the CameraInfo of the right image or of the depth image, where one was heard.
    wants_labels: whether a label image was expected.
    """

    image: AnyImage
    info: CameraInfo | None = None
    prior_kind: str = NONE
    prior: AnyImage | None = None
    prior_info: CameraInfo | None = None
    wants_labels: bool = False
    labels: Image | None = None

    @property
    def lacks_prior(self) -> bool:
        """Whether depth, or the right image or its CameraInfo, could still come."""
        if self.prior_kind == NONE:
            return False
        stereo_needs = self.prior_kind == STEREO and self.prior_info is None
        return self.prior is None or stereo_needs

    @property
    def lacks_labels(self) -> bool:
        """Whether the label image could still come."""
        return self.wants_labels and self.labels is None

    @property
    def complete(self) -> bool:
        """Whether nothing is missing that could still come."""
        return self.info is not None and not self.lacks_prior and not self.lacks_labels


class _Source:
    """The latest messages of one topic."""

    def __init__(self) -> None:
        self.messages: deque[tuple[int, AnyImage]] = deque(maxlen=KEPT_MESSAGES)
        self.seen_s = float('-inf')

    def is_live(self, now_s: float, stamp_ns: int) -> bool:
        """Say whether the next message of this source can be expected for an image."""
        if now_s - self.seen_s <= LIVE_S:
            return True
        return any(abs(stamp - stamp_ns) <= LIVE_S * 1e9 for stamp, _ in self.messages)

    def add(self, message: AnyImage, now_s: float) -> None:
        """Keep a message that has arrived."""
        self.messages.append((stamp_to_ns(message.header.stamp), message))
        self.seen_s = now_s

    def nearest(self, stamp_ns: int, tolerance_s: float) -> AnyImage | None:
        """Return the message nearest to a stamp, None where none is within the tolerance."""
        tolerance_ns = round(tolerance_s * 1e9)
        candidates = [(abs(stamp - stamp_ns), message) for stamp, message in self.messages]
        gap, message = min(candidates, key=lambda pair: pair[0], default=(None, None))
        return message if gap is not None and gap <= tolerance_ns else None


class Pairing:
    """Hold back images until their messages are there; used from one thread."""

    def __init__(
        self,
        source: str,
        prior: Patience,
        labels: Patience | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the parameter prior.source, and how long to wait; labels None expects none."""
        self._wanted, self._prior, self._labels = source, prior, labels
        self._now_s = now_s
        self._sources = {DEPTH: _Source(), STEREO: _Source()}
        self._label_source = _Source()
        self._infos: dict[str, CameraInfo] = {}
        self._waiting: deque[tuple[float, Bundle]] = deque()

    @property
    def wait_s(self) -> float | None:
        """How long from now the next image that is held back may wait; None where none is."""
        if not self._waiting:
            return None
        now = self._now_s()
        return max(min(came_s + self._patience_s(b) - now for came_s, b in self._waiting), 0.0)

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
        return self.released()

    def add_image(self, image: AnyImage) -> list[Bundle]:
        """Take an image; return the bundles that are ready, oldest first."""
        kind = self.expected(stamp_to_ns(image.header.stamp))
        # the CameraInfo of its arrival: a later one may be of the next image
        bundle = Bundle(image, self._infos.get(IMAGE), kind, wants_labels=self._labels is not None)
        self._waiting.append((self._now_s(), bundle))
        return self.released()

    def add_prior(self, kind: str, message: AnyImage) -> list[Bundle]:
        """Take a depth or right image; return the bundles that are ready."""
        self._sources[kind].add(message, self._now_s())
        return self.released()

    def add_labels(self, message: Image) -> list[Bundle]:
        """Take a label image; return the bundles that are ready."""
        self._label_source.add(message, self._now_s())
        return self.released()

    def flush(self) -> list[Bundle]:
        """Return all images that wait, with what there is."""
        return self._let_go(len(self._waiting))

    def released(self) -> list[Bundle]:
        """Return the images that have everything or waited long enough, and all older ones."""
        self._waiting = deque((came_s, self._filled(b)) for came_s, b in self._waiting)
        now, count = self._now_s(), max(len(self._waiting) - MOST_WAITING, 0)
        for place, (came_s, bundle) in enumerate(self._waiting, 1):
            if bundle.complete or now >= came_s + self._patience_s(bundle):
                count = max(count, place)
        return self._let_go(count)

    def _let_go(self, count: int) -> list[Bundle]:
        return [self._waiting.popleft()[1] for _ in range(count)]

    def _patience_s(self, bundle: Bundle) -> float:
        """Return how long an image waits from its arrival for what it still lacks."""
        for_info = INFO_WAIT_S if bundle.info is None else 0.0
        for_prior = self._prior.wait_s if bundle.lacks_prior else 0.0
        for_labels = self._labels.wait_s if self._labels and bundle.lacks_labels else 0.0
        return max(for_info, for_prior, for_labels)

    def _filled(self, bundle: Bundle) -> Bundle:
        """Return the bundle with what arrived for it meanwhile."""
        stamp_ns = stamp_to_ns(bundle.image.header.stamp)
        found: dict[str, Any] = {'info': bundle.info or self._infos.get(IMAGE)}
        if bundle.lacks_prior:
            source = self._sources[bundle.prior_kind]
            found['prior'] = source.nearest(stamp_ns, self._prior.tolerance_s)
            found['prior_info'] = self._infos.get(bundle.prior_kind)
        if self._labels and bundle.lacks_labels:
            found['labels'] = self._label_source.nearest(stamp_ns, self._labels.tolerance_s)
        return replace(bundle, **found)
