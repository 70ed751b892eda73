"""A subscriber to everything the node `occ` publishes, which writes it to a folder.

One JSON object per message goes to `events.jsonl`; clouds and their images go to `NNNNNN.npz`.
`outcome.py` reads the folder. Run: `python3 -m cigocc_ros.replay.collector FOLDER --ros-args`.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from numpy.typing import NDArray
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.utilities import ok, remove_ros_args
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Float64, String
from visualization_msgs.msg import Marker, MarkerArray

from cigocc_ros.core.labels import NUM_CLASSES
from cigocc_ros.replay.cloud_reading import points_from_cloud
from cigocc_ros.replay.outcome import EVENTS_FILE
from cigocc_ros.ros.input.images import rgb_from_image
from cigocc_ros.ros.stamps import stamp_to_ns

NODE_NAME = 'collector'
RELIABLE = QoSProfile(depth=10)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
KEPT = 20  # images and ground truths, until the cloud of their stamp arrives
_Kept = OrderedDict[int, tuple[Any, float]]


class Collector(Node):  # type: ignore[misc]  # rclpy is not read by mypy
    """Listen to `image`, `ground_truth` and what is below `occ/`; remap to listen elsewhere."""

    def __init__(self, folder: Path, store_every: int = 1, **node: Any) -> None:
        """Open the folder and subscribe; every `store_every`-th cloud is written."""
        super().__init__(NODE_NAME, **node)
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._store_every, self._clouds = folder, store_every, 0
        self._events = (folder / EVENTS_FILE).open('a', encoding='utf-8')
        self._images: _Kept = OrderedDict()
        self._truths: _Kept = OrderedDict()
        self._listen(Image, 'image', self._keeper(self._images))
        # a player waits for those who hear both: so it waits for us
        self._listen(CameraInfo, 'camera_info', lambda _: None)
        self._listen(PointCloud2, 'ground_truth', self._keeper(self._truths))
        self._listen(PointCloud2, 'occ/occupancy', self._on_cloud)
        self._listen(MarkerArray, 'occ/markers', self._on_markers)
        self._listen(DiagnosticArray, '/diagnostics', self._on_diagnostics)
        self._listen(String, 'occ/class_info', self._on_class_info, LATCHED)
        times = 'processing_time_ms'
        self._listen(Float64, f'occ/debug/{times}', self._number_writer(times))

    def _listen(self, kind: Any, topic: str, act: Any, qos: QoSProfile = RELIABLE) -> None:
        self.create_subscription(kind, topic, act, qos)

    def _write(self, kind: str, **content: Any) -> None:
        self._events.write(json.dumps({'kind': kind, **content}) + '\n')
        self._events.flush()

    def _keeper(self, kept: _Kept) -> Any:
        def keep(message: Any) -> None:
            kept[stamp_to_ns(message.header.stamp)] = message, time.monotonic()
            while len(kept) > KEPT:
                kept.popitem(last=False)

        return keep

    def _on_cloud(self, message: PointCloud2) -> None:
        arrived_s, stamp_ns = time.monotonic(), stamp_to_ns(message.header.stamp)
        image, seen_s = self._images.pop(stamp_ns, (None, None))
        truth, _ = self._truths.pop(stamp_ns, (None, None))
        points = points_from_cloud(message)
        self._clouds += 1
        file = ''
        if self._clouds % self._store_every == 0:
            file = self._store(points, image, truth)
        self._write(
            'occupancy',
            stamp_ns=stamp_ns,
            frame_id=message.header.frame_id,
            class_counts=np.bincount(points['label'], minlength=NUM_CLASSES).tolist(),
            latency_ms=None if seen_s is None else 1e3 * (arrived_s - seen_s),
            file=file,
        )

    def _store(self, points: NDArray[Any], image: Image | None, truth: PointCloud2 | None) -> str:
        """Write a cloud with its image and ground truth, as far as they came; return the name."""
        name = f'{self._clouds:06d}.npz'
        arrays: dict[str, Any] = {'points': points}
        if image is not None:
            arrays['image'] = rgb_from_image(image)
        if truth is not None:
            arrays['truth_points'] = points_from_cloud(truth)
        np.savez(self._folder / name, **arrays)
        return name

    def _on_markers(self, message: MarkerArray) -> None:
        cubes = {m.ns: len(m.points) for m in message.markers if m.type == Marker.CUBE_LIST}
        self._write('markers', cubes=cubes)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self._write(
                'diagnostics',
                name=status.name,
                level=ord(status.level),
                message=status.message,
                values={entry.key: entry.value for entry in status.values},
            )

    def _on_class_info(self, message: String) -> None:
        self._write('class_info', content=json.loads(message.data))

    def _number_writer(self, kind: str) -> Any:
        return lambda message: self._write(kind, value=message.data)

    def destroy_node(self) -> None:
        """Close the events file, then the node."""
        self._events.close()
        super().destroy_node()


def main(argv: list[str] | None = None) -> int:
    """Collect until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(description='write what the node occ publishes to a folder')
    parser.add_argument('folder', type=Path)
    parser.add_argument('--store-every', type=int, default=1, metavar='N')
    argv = sys.argv if argv is None else argv
    arguments = parser.parse_args(remove_ros_args(argv)[1:])
    rclpy.init(args=argv)
    node = Collector(arguments.folder, arguments.store_every)
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        node.destroy_node()
        if ok():
            rclpy.shutdown()
    return 0


if __name__ == '__main__':
    sys.exit(main())
