"""A process that subscribes to clouds and markers and drops them: somebody to publish for."""

from __future__ import annotations

import sys

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.qos import QoSProfile
from sensor_msgs.msg import PointCloud2
from visualization_msgs.msg import MarkerArray

CLOUD_TOPIC, MARKER_TOPIC = '/speed/cloud', '/speed/markers'


def main() -> int:
    """Listen until SIGINT."""
    rclpy.init()
    node = rclpy.create_node('listener')
    for kind, topic in ((PointCloud2, CLOUD_TOPIC), (MarkerArray, MARKER_TOPIC)):
        # raw: what the subscriber does with a message is not measured here
        node.create_subscription(kind, topic, lambda _: None, QoSProfile(depth=1), raw=True)
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        return 0
    return 0


if __name__ == '__main__':
    sys.exit(main())
