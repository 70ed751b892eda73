"""A node, an observer and an executor in one process, on a DDS domain of their own."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import rclpy
from fixtures_calibration import calibration
from fixtures_tiny_model import TINY_CONFIG
from numpy.typing import NDArray
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image

from cigocc_ros.core.camera import CameraModel
from cigocc_ros.core.frames import CameraFrame, Occupancy
from cigocc_ros.core.manifest import ModelManifest
from cigocc_ros.ros.input.camera_info import info_from_camera
from cigocc_ros.ros.node import OccNode
from cigocc_ros.ros.players.kitti_messages import image_from_rgb
from cigocc_ros.ros.stamps import stamp_from_ns
from cigocc_ros.runtime.contract import manifest_for

os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
WAIT_S = 45.0
CAMERA = CameraModel.from_intrinsics(80, 80, 40, 24, 80, 48)
# optical axes in a frame that looks forward: z_cam = x, x_cam = -y, y_cam = -z
FORWARD_XYZW = [-0.5, 0.5, -0.5, 0.5]
EXTRINSICS = {
    'extrinsics.translation': [0.25, 0.0, -0.1],
    'extrinsics.rotation': FORWARD_XYZW,
}


_domains = itertools.count(os.getpid() * 7)
_domain = 1


def enter_domain() -> None:
    """Leave what earlier tests started behind: DDS takes its time to notice who has gone."""
    global _domain
    # up to 101 the DDS ports stay below the ephemeral ones
    _domain = 1 + next(_domains) % 101


def domain_id() -> int:
    """Return the domain of the running test and of the processes that it starts."""
    return _domain


class FakeEngine:
    name = 'fake'


def fake_manifest(semantic_prior: bool = False) -> ModelManifest:
    """Return the manifest of a network that takes classes from outside, or does not."""
    config = replace(TINY_CONFIG, semantic_prior=semantic_prior)
    return manifest_for(
        config,
        'fake',
        license='Apache-2.0',
        files={},
        training={},
        calibration=calibration(),
    )


class FakePredictor:
    """Answer one road voxel (1, 2, 3) and one car voxel (4, 5, 6) to every frame."""

    def __init__(self) -> None:
        self.engine = FakeEngine()
        self.manifest = fake_manifest()
        self.sure: NDArray[np.uint8] | None = None
        """Of all voxels, where the model says how probable their classes are."""
        self.grid = self.manifest.voxel_grid
        self.frames: list[CameraFrame] = []
        self.error: Exception | None = None
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.threads: set[str] = set()
        self.closed = False

    def warm_up(self) -> None:
        self.threads.add(threading.current_thread().name)

    def __call__(self, frame: CameraFrame) -> Occupancy:
        self.threads.add(threading.current_thread().name)
        self.frames.append(frame)
        assert self.may_answer.wait(WAIT_S)
        if self.error is not None:
            raise self.error
        labels = np.zeros(self.grid.shape, np.uint8)
        labels[1, 2, 3], labels[4, 5, 6] = 9, 1
        probability = np.where(labels > 0, 204, 0).astype(np.uint8)
        return Occupancy(
            labels, probability, self.grid, frame.stamp_ns, frame.grid_frame_id, self.sure
        )

    def close(self) -> None:
        self.closed = True


class Graph:
    """The node under test and an observer that records what it hears."""

    def __init__(self, namespace: str = '', domain: int | None = None) -> None:
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain or domain_id())
        self.namespace = namespace
        self.predictor: Any = FakePredictor()  # or a real one, before the start
        self.observer = Node('observer', context=self.context, namespace=namespace)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.observer)
        self.node: OccNode | None = None

    def start(self, *remappings: str, **parameters: Any) -> OccNode:
        overrides = [Parameter(name, value=value) for name, value in parameters.items()]
        self.node = OccNode(
            lambda *_: self.predictor,
            context=self.context,
            namespace=self.namespace,
            cli_args=['--ros-args', *(word for rule in remappings for word in ('-r', rule))],
            parameter_overrides=overrides,
        )
        self.executor.add_node(self.node)
        return self.node

    def hear(self, kind: type, topic: str, qos: QoSProfile | int = 10) -> list[Any]:
        heard: list[Any] = []
        self.observer.create_subscription(kind, topic, heard.append, qos)
        return heard

    def offered(self, topic: str) -> int:
        """Return how many publishers the observer has discovered, which can take seconds."""
        return self.observer.count_publishers(topic)

    def publisher(self, kind: type, topic: str, qos: QoSProfile | int = 1) -> Any:
        return self.observer.create_publisher(kind, topic, qos)

    def until(self, condition: Callable[[], Any], every: Callable[[], Any] | None = None) -> None:
        """Spin until `condition`, doing `every` about each 50 ms; fail after WAIT_S."""
        deadline, again = time.monotonic() + WAIT_S, 0.0
        while not condition():
            now = time.monotonic()
            assert now < deadline, f'not within {WAIT_S} s; {self.report()}'
            if every is not None and now >= again:
                every()
                again = now + 0.05
            self.executor.spin_once(timeout_sec=0.02)

    def report(self) -> Any:
        return self.node and self.node.snapshot()

    def close(self) -> None:
        if isinstance(self.predictor, FakePredictor):
            self.predictor.may_answer.set()
        self.executor.shutdown()
        if self.node is not None:
            self.node.destroy_node()
        self.observer.destroy_node()
        self.context.try_shutdown()


class Camera:
    """Publish images with their CameraInfo."""

    def __init__(self, graph: Graph, prefix: str = '', qos: QoSProfile | int = 1) -> None:
        self.images = graph.publisher(Image, prefix + 'image', qos)
        self.infos = graph.publisher(CameraInfo, prefix + 'camera_info', qos)
        # of the present, as far back as no camera's fault and with room to run faster than time
        self.stamp_ns = time.time_ns() - 8_000_000_000

    def matched(self) -> bool:
        counts = [p.get_subscription_count() for p in (self.images, self.infos)]
        return all(counts)

    def image(self) -> Image:
        self.stamp_ns += 100_000_000
        shades = np.arange(48 * 80 * 3, dtype=np.uint32).reshape(48, 80, 3) % 251
        return self.stamped(image_from_rgb(shades.astype(np.uint8)))

    def stamped(self, message: Any) -> Any:
        message.header.stamp = stamp_from_ns(self.stamp_ns)
        message.header.frame_id = 'camera_optical'
        return message

    def publish(self, image: Image | None = None, info: CameraInfo | None = None) -> Image:
        image = self.image() if image is None else image
        info = self.stamped(info_from_camera(CAMERA) if info is None else info)
        self.infos.publish(info)
        self.images.publish(image)
        return image
