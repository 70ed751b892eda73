"""What was seen of a running system; collected by `observer`, judged by the checks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rclpy.qos import QoSProfile

IMAGE_TYPE, COMPRESSED_TYPE = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
INFO_TYPE = 'sensor_msgs/msg/CameraInfo'


@dataclass(frozen=True)
class Endpoint:
    """A publisher or a subscription of somebody, as discovery tells it."""

    node: str
    kind: str
    qos: QoSProfile


@dataclass(frozen=True)
class TopicView:
    """One topic: who publishes, who subscribes."""

    name: str
    publishers: tuple[Endpoint, ...] = ()
    subscriptions: tuple[Endpoint, ...] = ()


@dataclass
class Heard:
    """Messages of one topic during the observation."""

    last: Any = None
    count: int = 0
    stamps_ns: list[int] = field(default_factory=list)
    first_s: float = 0.0
    last_s: float = 0.0

    @property
    def rate_hz(self) -> float:
        """Messages a second between the first and the last; 0 below two."""
        span_s = self.last_s - self.first_s
        return (self.count - 1) / span_s if self.count > 1 and span_s > 0 else 0.0


@dataclass(frozen=True)
class Report:
    """What a running node says about itself on /diagnostics and through its parameters."""

    level: int | None = None
    message: str = ''
    values: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Observation:
    """Everything that the live checks look at; `node` is '' where none was found."""

    wanted: str
    node: str
    others: tuple[str, ...]
    report: Report
    image: TopicView
    info: TopicView
    inputs: tuple[TopicView, ...]
    """The other inputs of the node."""
    outputs: tuple[TopicView, ...]
    all_topics: dict[str, tuple[str, ...]]
    images: Heard
    infos: Heard
    duration_s: float
    output_frame: str
    now_ns: int
