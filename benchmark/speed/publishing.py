"""Publishers with a subscriber in another process: the steps that publish need somebody to hear.

`python -m benchmark.speed.publishing` is that subscriber.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rclpy
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import PointCloud2
from visualization_msgs.msg import MarkerArray

from cigocc_ros.core.errors import EngineError
from cigocc_ros.replay.processes import Processes, ros_environment

LISTENER = 'listener'
CLOUD_TOPIC, MARKER_TOPIC = '/speed/cloud', '/speed/markers'
HEARD_WITHIN_S = 30.0
LATEST = QoSProfile(depth=1)


def use_ros_environment() -> int:
    """Join the domain of ROS_DOMAIN_ID, else a free one, with the DDS profile; return it."""
    named = os.environ.get('ROS_DOMAIN_ID')
    chosen = ros_environment(int(named) if named else None)
    os.environ.update({k: v for k, v in chosen.items() if k.startswith(('ROS', 'FAST'))})
    return int(chosen['ROS_DOMAIN_ID'])


@contextmanager
def heard_publishers(domain_id: int) -> Iterator[tuple[Any, Any]]:
    """Give the `publish` of a cloud and of a marker topic; raise EngineError if nobody listens."""
    context = Context()
    with (
        tempfile.TemporaryDirectory() as logs,
        Processes(Path(logs), ros_environment(domain_id)) as processes,
    ):
        processes.start(LISTENER, [sys.executable, '-m', 'benchmark.speed.publishing'])
        rclpy.init(context=context, domain_id=domain_id)
        node = Node('steps', context=context)
        try:
            made = [
                node.create_publisher(PointCloud2, CLOUD_TOPIC, LATEST),
                node.create_publisher(MarkerArray, MARKER_TOPIC, LATEST),
            ]
            deadline = time.monotonic() + HEARD_WITHIN_S
            while any(not publisher.get_subscription_count() for publisher in made):
                processes.check(LISTENER)
                if time.monotonic() > deadline:
                    raise EngineError('nobody subscribed: do DDS messages reach this host itself?')
                time.sleep(0.02)
            yield made[0].publish, made[1].publish
        finally:
            node.destroy_node()
            rclpy.shutdown(context=context)


def listen() -> int:
    """Subscribe to clouds and markers and drop them, until SIGINT."""
    rclpy.init()
    node = rclpy.create_node(LISTENER)
    for kind, topic in ((PointCloud2, CLOUD_TOPIC), (MarkerArray, MARKER_TOPIC)):
        # raw: what the subscriber does with a message is not measured here
        node.create_subscription(kind, topic, lambda _: None, LATEST, raw=True)
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        return 0
    return 0


if __name__ == '__main__':
    sys.exit(listen())
