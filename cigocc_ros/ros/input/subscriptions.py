"""The subscriptions: reliable first, best effort where the publisher offers no more.

Messages that were published but never arrived are counted by the numbers that DDS gives them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from cigocc_ros.core.prior import AUTO, DEPTH, NONE, STEREO
from cigocc_ros.ros.input.images import AnyImage
from cigocc_ros.ros.input.pairing import Bundle, Pairing
from cigocc_ros.ros.occ_parameters import OccParameters

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks


class SequenceGaps:
    """Follow the numbers of one topic; used from one thread.

    Humble does not tell the numbers: nothing is counted there. Two publishers of one topic number
    their messages each for themselves: a gap counts only while there is one.
    """

    def __init__(self, publishers: Callable[[], int]) -> None:
        """Take what counts the publishers of the topic; it is asked only where a gap shows."""
        self._publishers = publishers
        self._last: int | None = None

    def missed(self, message_info: Mapping[str, Any]) -> int:
        """Return how many messages got lost between the last one and the one that arrived."""
        number = message_info.get('publication_sequence_number')
        if number is None:
            return 0
        last, self._last = self._last, int(number)
        if last is None or number <= last + 1:  # the first one, or of a publisher that restarted
            return 0
        return int(number) - last - 1 if self._publishers() == 1 else 0


logger = logging.getLogger(__name__)
# The callbacks only fill the mailbox, so a queue adds no latency; with depth 1 a frame that a busy
# CPU lets be overwritten is neither counted nor paired with its right image.
QUEUE_DEPTH = 5
RIGHT_INFO = 'right/camera_info'


class FallbackSubscription:
    """A RELIABLE subscription that turns BEST_EFFORT when a publisher offers only that.

    Large best-effort messages get lost with Fast DDS defaults, so best effort is not the start.
    """

    def __init__(
        self, node: Node, kind: type[Any], topic: str, callback: Callable[..., None]
    ) -> None:
        """Subscribe reliably."""
        self._node, self._kind, self._topic, self._callback = node, kind, topic, callback
        self.reliability = ReliabilityPolicy.RELIABLE
        self._subscription: Subscription | None = self._subscribe()

    @property
    def topic(self) -> str:
        """Fully resolved topic name."""
        return str(self._node.resolve_topic_name(self._topic))

    def _subscribe(self) -> Subscription:
        events = None
        if self.reliability == ReliabilityPolicy.RELIABLE:
            events = SubscriptionEventCallbacks(incompatible_qos=self._fall_back)
        qos = QoSProfile(depth=QUEUE_DEPTH, reliability=self.reliability)
        return self._node.create_subscription(
            self._kind, self._topic, self._callback, qos, event_callbacks=events
        )

    def _fall_back(self, _event: Any) -> None:
        if self.reliability != ReliabilityPolicy.RELIABLE or self._subscription is None:
            return
        logger.warning(
            '%s: a publisher does not offer RELIABLE (%s), subscribing BEST_EFFORT',
            self.topic,
            ', '.join(self._offers()) or 'gone again',
        )
        self.reliability = ReliabilityPolicy.BEST_EFFORT
        self._node.destroy_subscription(self._subscription)
        self._subscription = self._subscribe()

    def _offers(self) -> list[str]:
        publishers = self._node.get_publishers_info_by_topic(self.topic)
        return [f'{info.node_name} {info.qos_profile.reliability.name}' for info in publishers]


class Inputs:
    """Subscribe to the camera and hand over the messages of each frame together."""

    def __init__(
        self,
        node: Node,
        parameters: OccParameters,
        deliver: Callable[[Bundle], None],
        lost: Callable[[int], None],
    ) -> None:
        """Subscribe; `deliver` is called in the executor's thread and must be quick.

        `lost` gets the number of images that were published and did not arrive.
        """
        self._deliver, self._lost = deliver, lost
        self._gaps = SequenceGaps(lambda: int(node.count_publishers(self.image.topic)))
        self._pairing = Pairing(parameters.prior_source, parameters.prior_tolerance_s)
        self._infos: dict[str, CameraInfo] = {}
        self._info_seen_s: float | None = None
        self._early_right: AnyImage | None = None
        self._deadline = node.create_timer(parameters.prior_wait_s, self._give_up_waiting)
        self._deadline.cancel()
        compressed = parameters.image_transport == 'compressed'
        self._kind = CompressedImage if compressed else Image
        self._suffix = '/compressed' if compressed else ''
        # camera_info before image: of two messages that wait, the executor takes it first
        self.info = self._info(node, 'camera_info')
        self._subscriptions = [self.info]
        self._subscriptions += self._prior_subscriptions(node, parameters.prior_source)
        self.image = self._image(node, 'image', self._on_image)
        self.right_topic = f'{node.resolve_topic_name("right/image")}{self._suffix}'

    @property
    def info_age_s(self) -> float | None:
        """Seconds since the last camera_info; None before the first."""
        return None if self._info_seen_s is None else time.monotonic() - self._info_seen_s

    def _prior_subscriptions(self, node: Node, source: str) -> list[FallbackSubscription]:
        made = []
        if source in (AUTO, DEPTH):
            made.append(FallbackSubscription(node, Image, 'depth', self._on_depth))
        if source in (AUTO, STEREO):
            made.append(self._info(node, RIGHT_INFO))
            made.append(self._image(node, 'right/image', self._on_right))
        return made

    def _image(
        self, node: Node, topic: str, callback: Callable[..., None]
    ) -> FallbackSubscription:
        # like image_transport: the suffix comes after the remapping of the base topic
        resolved = f'{node.resolve_topic_name(topic)}{self._suffix}'
        return FallbackSubscription(node, self._kind, resolved, callback)

    def _info(self, node: Node, topic: str) -> FallbackSubscription:
        def remember(message: CameraInfo) -> None:
            self._infos[topic] = message
            if topic == 'camera_info':
                self._info_seen_s = time.monotonic()
            else:
                self._release_early_right()

        return FallbackSubscription(node, CameraInfo, topic, remember)

    def _on_image(self, message: AnyImage, info: Mapping[str, Any]) -> None:
        missed = self._gaps.missed(info)
        if missed:
            self._lost(missed)
        self._forward(self._pairing.add_image(Bundle(message, self._infos.get('camera_info'))))
        if self._pairing.waiting:
            self._deadline.reset()

    def _on_depth(self, message: AnyImage) -> None:
        self._forward(self._pairing.add_prior(DEPTH, message))

    def _on_right(self, message: AnyImage) -> None:
        self._release_early_right()
        if RIGHT_INFO in self._infos:
            self._forward(self._pairing.add_prior(STEREO, message))
        else:  # in the first moments its camera_info may be on the way
            self._early_right = message

    def _release_early_right(self) -> None:
        early, self._early_right = self._early_right, None
        if early is not None:
            self._forward(self._pairing.add_prior(STEREO, early))

    def _give_up_waiting(self) -> None:
        self._deadline.cancel()
        self._release_early_right()
        self._forward(self._pairing.flush())

    def _forward(self, bundles: list[Bundle]) -> None:
        for bundle in bundles:
            self._deliver(self._with_right_info(bundle))

    def _with_right_info(self, bundle: Bundle) -> Bundle:
        if bundle.prior_kind in (NONE, DEPTH):
            return bundle
        info = self._infos.get(RIGHT_INFO)
        return Bundle(bundle.image, bundle.info, bundle.prior_kind, bundle.prior, info)
