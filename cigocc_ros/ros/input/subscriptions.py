"""The subscriptions: each follows what is offered on its topic in QoS and transport.

Messages that were published but never arrived are counted by the numbers that DDS gives them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from cigocc_ros.core.class_presets import PRESETS
from cigocc_ros.core.prior import AUTO, DEPTH, STEREO
from cigocc_ros.ros.input.images import AnyImage
from cigocc_ros.ros.input.pairing import IMAGE, Bundle, Pairing, Patience
from cigocc_ros.ros.occ_parameters import (
    AUTO_RELIABILITY,
    BEST_EFFORT,
    RELIABLE,
    OccParameters,
)
from cigocc_ros.ros.stamps import steady_clock

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

logger = logging.getLogger(__name__)
# The callbacks only fill the mailbox, so a queue adds no latency; with depth 1 a frame that a busy
# CPU lets be overwritten is neither counted nor paired with its right image.
QUEUE_DEPTH = 5
LOOK_S = 0.5
SILENT_S = 2.0
"""A topic that says nothing for so long is looked at: it may be latched, or of another form."""
SHORTEST_WAIT_S = 0.001
LABEL_TOPIC = 'semantic_prior'
MessageInfo = Mapping[str, Any]
Callback = Callable[[Any, MessageInfo], None]


class SequenceGaps:
    """Follow the numbers of one topic; used from one thread.

    Humble does not tell the numbers: nothing is counted there. Two publishers of one topic number
    their messages each for themselves: a gap counts only while there is one.
    """

    def __init__(self, publishers: Callable[[], int]) -> None:
        """Take what counts the publishers of the topic; it is asked only where a gap shows."""
        self._publishers = publishers
        self._last: int | None = None

    def missed(self, message_info: MessageInfo) -> int:
        """Return how many messages got lost between the last one and the one that arrived."""
        number = message_info.get('publication_sequence_number')
        if number is None:
            return 0
        last, self._last = self._last, int(number)
        if last is None or number <= last + 1:  # the first one, or of a publisher that restarted
            return 0
        return int(number) - last - 1 if self._publishers() == 1 else 0


def as_rclpy_calls(callback: Callback) -> Callable[..., None]:
    """Return the callback with the arguments that this rclpy gives.

    rclpy tells what it knows of a message since 3.4 (ros2/rclpy#922), and then only callbacks of
    exactly two arguments. Humble has 3.3, which calls them with the message alone
    (rclpy/executors.py, `await_or_execute(sub.callback, msg)`): there is nothing to tell.
    """
    if hasattr(Subscription, 'CallbackType'):
        return lambda message, info: callback(message, info)
    return lambda message: callback(message, {})


@dataclass(frozen=True)
class Form:
    """A message type, and the topic that carries it."""

    kind: type[Any]
    topic: str


class AdaptiveSubscription:
    """A subscription that takes what publishers offer.

    RELIABLE, until one offers only BEST_EFFORT: large best-effort messages get lost with Fast DDS
    defaults. VOLATILE, unless every publisher keeps its message for those who come late and none
    was heard. The first of its forms, unless only another one is published.
    """

    def __init__(
        self,
        node: Node,
        forms: tuple[Form, ...],
        callback: Callback,
        wanted: str = AUTO_RELIABILITY,
    ) -> None:
        """Subscribe to the first form; the topics are resolved names.

        `wanted` is the parameter image_reliability: best_effort does not begin with more, reliable
        does not fall back to less.
        """
        self._node, self._forms, self._wanted = node, forms, wanted
        self._callback = as_rclpy_calls(self._heard(callback))
        self.form = forms[0]
        self.reliability, self._durability = ReliabilityPolicy.RELIABLE, DurabilityPolicy.VOLATILE
        if wanted == BEST_EFFORT:
            self.reliability = ReliabilityPolicy.BEST_EFFORT
        self._made_s = time.monotonic()
        self._seen_s: float | None = None
        self._subscription: Subscription = self._subscribe()

    @property
    def topic(self) -> str:
        """The topic that is listened to."""
        return self.form.topic

    @property
    def age_s(self) -> float | None:
        """Seconds since the last message; None before the first."""
        return None if self._seen_s is None else time.monotonic() - self._seen_s

    def look(self) -> None:
        """Look at a silent topic: is it latched, or published in another form only?"""
        last_s = self._made_s if self._seen_s is None else self._seen_s
        if time.monotonic() - last_s < (SILENT_S if self._seen_s else 0.0):
            return
        if self._all_offer_latched() and self._durability == DurabilityPolicy.VOLATILE:
            logger.info('%s: published once for those who come late, subscribing so', self.topic)
            self._again(durability=DurabilityPolicy.TRANSIENT_LOCAL)
        elif not self._offers():
            self._try_other_form()

    def _heard(self, callback: Callback) -> Callback:
        def note(message: Any, info: MessageInfo) -> None:
            self._seen_s = time.monotonic()
            callback(message, info)

        return note

    def _subscribe(self) -> Subscription:
        events = SubscriptionEventCallbacks(incompatible_qos=self._fall_back)
        qos = QoSProfile(
            depth=QUEUE_DEPTH, reliability=self.reliability, durability=self._durability
        )
        kind, topic = self.form.kind, self.form.topic
        return self._node.create_subscription(
            kind, topic, self._callback, qos, event_callbacks=events
        )

    def _again(
        self,
        reliability: ReliabilityPolicy | None = None,
        durability: DurabilityPolicy = DurabilityPolicy.VOLATILE,
    ) -> None:
        self.reliability = reliability or self.reliability
        self._durability = durability
        self._node.destroy_subscription(self._subscription)
        self._subscription = self._subscribe()

    def _fall_back(self, _event: Any) -> None:
        """Ask for less where a publisher offers less."""
        best_effort = self.reliability == ReliabilityPolicy.BEST_EFFORT
        if best_effort and self._durability == DurabilityPolicy.VOLATILE:
            return
        offers = self._offers()
        if self._durability == DurabilityPolicy.TRANSIENT_LOCAL and not self._all_offer_latched():
            self._again()
            return
        kept = self._wanted == RELIABLE
        logger.warning(
            '%s: a publisher does not offer RELIABLE (%s), %s',
            self.topic,
            ', '.join(f'{o.node_name} {o.qos_profile.reliability.name}' for o in offers)
            or 'gone again',
            'which image_reliability demands' if kept else 'subscribing BEST_EFFORT',
        )
        if not kept:
            self._again(ReliabilityPolicy.BEST_EFFORT)

    def _try_other_form(self) -> None:
        published = [form for form in self._forms if self._node.count_publishers(form.topic)]
        if published and published[0] != self.form:
            logger.info('%s: only %s is published, taking it', self.topic, published[0].topic)
            self.form = published[0]
            self._again()

    def _all_offer_latched(self) -> bool:
        offers = [offer.qos_profile.durability for offer in self._offers()]
        return bool(offers) and all(o == DurabilityPolicy.TRANSIENT_LOCAL for o in offers)

    def _offers(self) -> list[Any]:
        return list(self._node.get_publishers_info_by_topic(self.topic))


class Topics(NamedTuple):
    """The names that images go by, without the suffix of a transport."""

    image: str
    right: str
    depth: str


class Inputs:
    """Subscribe to the camera and hand over the messages of each frame together."""

    def __init__(
        self,
        node: Node,
        parameters: OccParameters,
        deliver: Callable[[list[Bundle]], None],
        lost: Callable[[int], None],
        doubt: Callable[[str, str], bool] = lambda name, text: False,
    ) -> None:
        """Subscribe; `deliver` is called in the executor's thread and must be quick.

        It gets the frames that are ready together, oldest first, at least one. `lost` gets the
        number of images that were published and did not arrive, `doubt` what is published and not
        used; it says whether that is news.
        """
        self._node, self._deliver, self._lost, self._doubt = node, deliver, lost, doubt
        self._gaps = SequenceGaps(lambda: int(node.count_publishers(self.image.topic)))
        self._pairing = _pairing(parameters)
        # a steady clock: /clock may stand still while an image waits
        self._deadline = node.create_timer(LOOK_S, self._give_up_waiting, clock=steady_clock())
        self._deadline.cancel()
        raw_first = parameters.image_transport == 'raw'
        # camera_info before image: of two messages that wait, the executor takes it first
        self.info = self._info(IMAGE, self._resolved('camera_info'))
        self.others = self._prior_inputs(parameters, raw_first) | self._label_input(parameters)
        self.topics = Topics(*map(self._resolved, ('image', 'right/image', 'depth')))
        forms = _image_forms(self.topics.image, raw_first)[:1]  # what was asked for, no other
        reliability = parameters.image_reliability
        self.image = AdaptiveSubscription(node, forms, self._on_image, reliability)
        node.create_timer(LOOK_S, self._look, clock=steady_clock())

    def _resolved(self, topic: str) -> str:
        return str(self._node.resolve_topic_name(topic))

    def _prior_inputs(
        self, parameters: OccParameters, raw_first: bool
    ) -> dict[str, AdaptiveSubscription]:
        """Subscribe to depth and right camera, each with its CameraInfo, as far as wanted."""
        source, made = parameters.prior_source, {}
        if source in (AUTO, DEPTH):
            made['depth/camera_info'] = self._info(DEPTH, self._depth_info_topic())
            forms = _depth_forms(self._resolved('depth'), parameters.prior_depth_transport)
            made['depth'] = AdaptiveSubscription(
                self._node,
                forms,
                lambda message, _: self._on_prior(DEPTH, message),
                parameters.image_reliability,
            )
        if source in (AUTO, STEREO):
            made['right/camera_info'] = self._info(STEREO, self._resolved('right/camera_info'))
            forms = _image_forms(self._resolved('right/image'), raw_first)
            made['right/image'] = AdaptiveSubscription(
                self._node,
                forms,
                lambda message, _: self._on_prior(STEREO, message),
                parameters.image_reliability,
            )
        return made

    def _label_input(self, parameters: OccParameters) -> dict[str, AdaptiveSubscription]:
        """Subscribe to label images, where it is said what their ids mean."""
        if not parameters.semantic_classes:
            return {}
        forms = (Form(Image, self._resolved(LABEL_TOPIC)),)

        def take(message: Image, _: MessageInfo) -> None:
            self._forward(self._pairing.add_labels(message))

        reliability = parameters.image_reliability
        return {LABEL_TOPIC: AdaptiveSubscription(self._node, forms, take, reliability)}

    def _depth_info_topic(self) -> str:
        """Return where the CameraInfo of the depth images is: beside them, unless remapped."""
        topic, depth = 'depth/camera_info', 'depth'
        if is_remapped(self._node, topic) or not is_remapped(self._node, depth):
            return self._resolved(topic)
        return sibling_info(self._resolved(depth))

    def _info(self, owner: str, topic: str) -> AdaptiveSubscription:
        def take(message: CameraInfo, _: MessageInfo) -> None:
            self._forward(self._pairing.add_info(owner, message))

        return AdaptiveSubscription(self._node, (Form(CameraInfo, topic),), take)

    def _on_image(self, message: AnyImage, info: MessageInfo) -> None:
        missed = self._gaps.missed(info)
        if missed:
            self._lost(missed)
        self._forward(self._pairing.add_image(message))

    def _on_prior(self, kind: str, message: AnyImage) -> None:
        self._forward(self._pairing.add_prior(kind, message))

    def _give_up_waiting(self) -> None:
        self._forward(self._pairing.released())

    def _forward(self, bundles: list[Bundle]) -> None:
        """Hand over what is ready, and look again when the next image has waited long enough."""
        if bundles:
            self._deliver(bundles)
        wait_s = self._pairing.wait_s
        if wait_s is None:
            self._deadline.cancel()
        else:
            self._deadline.timer_period_ns = round(max(wait_s, SHORTEST_WAIT_S) * 1e9)
            self._deadline.reset()

    def _look(self) -> None:
        for subscription in (self.info, *self.others.values()):
            subscription.look()
        text = self._unexplained_labels()
        if text and self._doubt('semantic_classes', text):
            logger.warning('%s', text)

    def _unexplained_labels(self) -> str:
        """Say that label images are published of which nobody said what their ids mean."""
        topic = self._resolved(LABEL_TOPIC)
        if LABEL_TOPIC in self.others or not self._node.count_publishers(topic):
            return ''
        return (
            f'{topic} is published but not used: semantic_classes does not say what the ids of '
            f'its images mean; set it to one of {", ".join(PRESETS)} or a YAML file'
        )


def _pairing(parameters: OccParameters) -> Pairing:
    """Return what brings the messages together; label images are expected where asked for."""
    prior = Patience(parameters.prior_tolerance_s, parameters.prior_wait_s)
    labels = Patience(parameters.semantic_tolerance_s, parameters.semantic_wait_s)
    return Pairing(parameters.prior_source, prior, labels if parameters.semantic_classes else None)


def is_remapped(node: Node, topic: str) -> bool:
    """Say whether a topic of the node was given another name."""
    given, own = (node.resolve_topic_name(topic, only_expand=only) for only in (False, True))
    return bool(given != own)


def sibling_info(topic: str) -> str:
    """Return the CameraInfo topic that belongs to an image topic: camera_info beside it.

    The convention of image_transport (camera_common.cpp, getCameraInfoTopic).
    """
    return f'{topic.rpartition("/")[0]}/camera_info'


def _image_forms(base: str, raw_first: bool) -> tuple[Form, ...]:
    # like image_transport: the suffix comes after the remapping of the base topic
    forms = Form(Image, base), Form(CompressedImage, f'{base}/compressed')
    return forms if raw_first else forms[::-1]


def _depth_forms(base: str, transport: str) -> tuple[Form, ...]:
    raw, compressed = Form(Image, base), Form(CompressedImage, f'{base}/compressedDepth')
    return {AUTO: (raw, compressed), 'raw': (raw,)}.get(transport, (compressed,))
