"""A node as it is usually written in Python: the peer of the measurements over DDS.

The same network and runtime, but: a queue of ten images, everything in the callback, voxels
projected and messages made per frame, the cloud from a list of points, markers as Python objects.

    python -m benchmark.speed.usual_node MODEL_DIR THREADS CAM_FROM_VELO --ros-args ...
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from numpy.typing import NDArray
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from visualization_msgs.msg import MarkerArray

from benchmark.speed import usual
from cigocc_ros.core.camera import CameraModel
from cigocc_ros.core.frames import LIDAR_FRAME, CameraFrame, Occupancy
from cigocc_ros.core.manifest import LABELS, OCCUPIED_PROBABILITY, load_manifest
from cigocc_ros.runtime.onnxruntime_engine import OnnxRuntimeEngine
from cigocc_ros.runtime.preprocess import Preprocessor

QUEUE_DEPTH = 10


class UsualNode(Node):  # type: ignore[misc]  # rclpy is not read by mypy
    """Image in, cloud and markers out, in one callback."""

    def __init__(self, model_dir: Path, threads: int, cam_from_velo: NDArray[np.float64]) -> None:
        """Load the model and subscribe."""
        super().__init__('usual')
        self._cam_from_velo = cam_from_velo
        self._manifest = load_manifest(model_dir)
        self._engine = OnnxRuntimeEngine(model_dir, self._manifest, threads)
        self._camera: CameraModel | None = None
        self._cloud = self.create_publisher(PointCloud2, '~/occupancy', QUEUE_DEPTH)
        self._markers = self.create_publisher(MarkerArray, '~/markers', QUEUE_DEPTH)
        self.create_subscription(CameraInfo, 'camera_info', self._on_info, QUEUE_DEPTH)
        self.create_subscription(Image, 'image', self._on_image, QUEUE_DEPTH)

    def _on_info(self, message: CameraInfo) -> None:
        projection = np.array(message.p).reshape(3, 4)
        self._camera = CameraModel(message.width, message.height, projection)

    def _on_image(self, message: Image) -> None:
        if self._camera is None:
            return
        image = np.array(message.data).reshape(message.height, message.width, 3)
        size, grid = self._manifest.image_size, self._manifest.voxel_grid
        frame = CameraFrame(image, self._camera, self._cam_from_velo, 0, message.header.frame_id)
        usual.preprocess(frame, size, grid)
        outputs = self._engine.run(Preprocessor(size)(frame))
        occupancy = Occupancy(
            outputs[LABELS][0], outputs[OCCUPIED_PROBABILITY][0], grid, 0, LIDAR_FRAME
        )
        self._publish(message.header.stamp, occupancy)

    def _publish(self, stamp: Any, occupancy: Occupancy) -> None:
        head = usual.Header(stamp=stamp, frame_id=LIDAR_FRAME)
        points = usual.records(occupancy).tolist()
        self._cloud.publish(usual.create_cloud(head, usual.FIELDS, points))
        if self._markers.get_subscription_count():
            self._markers.publish(usual.marker_objects(head, occupancy))


def main() -> int:
    """Run until SIGINT."""
    rclpy.init()
    model_dir, threads, cam_from_velo = remove_ros_args(sys.argv)[1:]
    node = UsualNode(Path(model_dir), int(threads), np.array(json.loads(cam_from_velo)))
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        return 0
    return 0


if __name__ == '__main__':
    sys.exit(main())
