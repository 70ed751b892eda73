"""The publishers of the node: each message is made only when somebody listens."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Float64, String
from visualization_msgs.msg import MarkerArray

from cigocc_ros.core.frames import Occupancy
from cigocc_ros.ros.clouds import cloud_from_occupancy
from cigocc_ros.ros.markers import MarkerWriter

RELIABLE_LATEST = QoSProfile(depth=1)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Outputs:
    """Publish occupancies; used by the worker thread once made."""

    def __init__(self, node: Node, max_markers: Callable[[], int]) -> None:
        """Create the publishers; `max_markers` is asked before each marker message."""
        self._max_markers = max_markers
        self._write_markers = MarkerWriter()
        self._cloud = node.create_publisher(PointCloud2, '~/occupancy', RELIABLE_LATEST)
        self._markers = node.create_publisher(MarkerArray, '~/markers', RELIABLE_LATEST)
        self._class_info = node.create_publisher(String, '~/class_info', LATCHED)
        self._processing = node.create_publisher(
            Float64, '~/debug/processing_time_ms', RELIABLE_LATEST
        )
        self._pipeline = node.create_publisher(
            Float64, '~/debug/pipeline_latency_ms', RELIABLE_LATEST
        )

    def publish_class_info(self, text: str) -> None:
        """Publish the latched description of classes and grid."""
        self._class_info.publish(String(data=text))

    def publish(self, occupancy: Occupancy) -> None:
        """Publish cloud and markers."""
        if self._cloud.get_subscription_count():
            self._cloud.publish(cloud_from_occupancy(occupancy))
        if self._markers.get_subscription_count():
            self._markers.publish(self._write_markers(occupancy, self._max_markers()))

    def publish_times(self, processing_ms: float, pipeline_ms: float | None) -> None:
        """Publish how long the frame took here, and since its stamp where that means anything."""
        self._processing.publish(Float64(data=processing_ms))
        if pipeline_ms is not None:
            self._pipeline.publish(Float64(data=pipeline_ms))
