"""The publishers of the node: each message is made only when somebody listens."""

from __future__ import annotations

import time
from collections.abc import Callable

from nav_msgs.msg import OccupancyGrid
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Float64, String
from visualization_msgs.msg import MarkerArray

from cigocc_ros.core.frames import Occupancy
from cigocc_ros.core.grid import VoxelGrid
from cigocc_ros.ros.occ_parameters import OccParameters
from cigocc_ros.ros.output.clouds import cloud_from_occupancy
from cigocc_ros.ros.output.grids import GridFormat, bev_message
from cigocc_ros.ros.output.legend import legend_message
from cigocc_ros.ros.output.markers import MarkerWriter

RELIABLE_LATEST = QoSProfile(depth=1)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Rate:
    """Say when the next message of a topic is due; the clock of the machine, which never jumps."""

    def __init__(self) -> None:
        """Be due at once."""
        self._next_s = 0.0

    def due(self, hz: float) -> bool:
        """Return whether to publish now, at most `hz` times a second; 0 is always."""
        now_s = time.monotonic()
        if not hz:
            return True
        if now_s < self._next_s:
            return False
        # counted from when it was due, so that the pace holds though frames come when they do
        following_s = self._next_s + 1 / hz
        self._next_s = following_s if following_s > now_s else now_s + 1 / hz
        return True


class Outputs:
    """Publish occupancies; used by the worker thread once made."""

    latest: Occupancy | None = None
    """The newest occupancy, whole."""

    def __init__(
        self, node: Node, settings: Callable[[], OccParameters], grid: GridFormat
    ) -> None:
        """Create the publishers; `settings` is asked before each frame."""
        self._settings, self._grid_format = settings, grid
        self._write_markers = MarkerWriter()
        self._cloud = node.create_publisher(PointCloud2, '~/occupancy', RELIABLE_LATEST)
        self._markers = node.create_publisher(MarkerArray, '~/markers', RELIABLE_LATEST)
        self._grid = node.create_publisher(grid.kind, '~/grid', RELIABLE_LATEST)
        # like every map in ROS 2; Nav2's static layer asks for it (map_subscribe_transient_local)
        self._bev = node.create_publisher(OccupancyGrid, '~/bev', LATCHED)
        self._rates = {topic: Rate() for topic in (self._markers, self._grid, self._bev)}
        self._class_info = node.create_publisher(String, '~/class_info', LATCHED)
        self._legend = node.create_publisher(MarkerArray, '~/legend', LATCHED)
        self._processing = node.create_publisher(
            Float64, '~/debug/processing_time_ms', RELIABLE_LATEST
        )
        self._pipeline = node.create_publisher(
            Float64, '~/debug/pipeline_latency_ms', RELIABLE_LATEST
        )

    def publish_class_info(self, text: str) -> None:
        """Publish the latched description of classes and grid."""
        self._class_info.publish(String(data=text))

    def publish_legend(self, grid: VoxelGrid, frame_id: str) -> None:
        """Publish the latched board with the names of the classes."""
        self._legend.publish(legend_message(grid, frame_id))

    def publish(self, occupancy: Occupancy) -> None:
        """Publish what somebody listens to and is due."""
        self.latest, settings = occupancy, self._settings()
        cloud = bool(self._cloud.get_subscription_count())
        markers = self._wanted(self._markers, settings.rates_markers_hz)
        if cloud or markers:
            shown = settings.shown(occupancy)
        if cloud:
            self._cloud.publish(cloud_from_occupancy(shown))
        if markers:
            self._markers.publish(self._write_markers(shown, settings.max_markers))
        if self._wanted(self._grid, settings.rates_grid_hz):
            self._grid.publish(self._grid_format.make(occupancy))
        if self._wanted(self._bev, settings.rates_bev_hz):
            self._bev.publish(bev_message(occupancy))

    def _wanted(self, topic: Publisher, hz: float) -> bool:
        return bool(topic.get_subscription_count()) and self._rates[topic].due(hz)

    def publish_times(self, processing_ms: float, pipeline_ms: float | None) -> None:
        """Publish how long the frame took here, and since its stamp where that means anything."""
        self._processing.publish(Float64(data=processing_ms))
        if pipeline_ms is not None:
            self._pipeline.publish(Float64(data=pipeline_ms))
