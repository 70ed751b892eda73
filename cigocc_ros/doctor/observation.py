"""What was seen of a running system; collected by `observer`, judged by the checks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.qos import QoSProfile

IMAGE_TYPE, COMPRESSED_TYPE = 'sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage'
INFO_TYPE = 'sensor_msgs/msg/CameraInfo'


@dataclass(frozen=True)
class Endpoint:
    """A publisher or a subscription, as discovery tells it."""

    node: str
    """Fully qualified name."""
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
    first_s: float = 0.0
    last_s: float = 0.0

    @property
    def rate_hz(self) -> float:
        """Messages a second between the first and the last; 0 below two."""
        span_s = self.last_s - self.first_s
        return (self.count - 1) / span_s if self.count > 1 and span_s > 0 else 0.0


@dataclass(frozen=True)
class Report:
    """What a running node says of itself: its last diagnostics and its parameters."""

    level: int | None = None
    message: str = ''
    values: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Pose:
    """The camera in the grid frame; `cam_from_velo` (4, 4) is None where `problem` says why."""

    source: str = ''
    cam_from_velo: NDArray[np.float64] | None = None
    problem: str = ''


@dataclass(frozen=True)
class Observation:
    """Everything that the live checks look at; `node` is '' where it was not found."""

    wanted: str
    node: str
    report: Report
    image: TopicView
    info: TopicView
    output_frame: str
    rectification: str
    duration_s: float
    namesakes: tuple[str, ...] = ()
    """Other nodes of the wanted name."""
    optional_inputs: tuple[TopicView, ...] = ()
    outputs: tuple[TopicView, ...] = ()
    all_topics: dict[str, tuple[str, ...]] = field(default_factory=dict)
    images: Heard = field(default_factory=Heard)
    infos: Heard = field(default_factory=Heard)
    pose: Pose = field(default_factory=Pose)
    now_ns: int = 0
