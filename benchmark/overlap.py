"""What it brings to overlap frames: `python -m benchmark.overlap`.

The node's own steps run on a stand-in of the network that answers at once (all of the path but a
network), and on made-up engines that leave the CPU alone for 5 and 20 ms, as a GPU does. Images of
1241x376 go straight into the node's mailbox at the rate of a camera; voxels, bird's eye view and
times are published to a subscriber. Each case runs with frames one by one, and overlapping.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from nav_msgs.msg import OccupancyGrid
from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import PointCloud2

from benchmark.frame_walk import FORWARD_XYZW
from benchmark.speed.scene import stored_answers, street
from cigocc_ros.core.camera import CameraModel
from cigocc_ros.core.markdown import table
from cigocc_ros.ros.input.camera_info import info_from_camera
from cigocc_ros.ros.input.pairing import Bundle
from cigocc_ros.ros.node import OccNode
from cigocc_ros.ros.players.kitti_messages import image_from_rgb
from cigocc_ros.ros.stamps import stamp_from_ns
from cigocc_ros.runtime.contract import Arrays
from cigocc_ros.runtime.predictor import Predictor

GRID, OCCUPIED, IMAGE_SIZE = (128, 128, 16), 40_000, (384, 1280)
CAMERA = CameraModel.from_intrinsics(721, 721, 620, 188, 1241, 376)
WARM_S = 1.0


class MadeUpEngine:
    """The answers of another engine, later; meanwhile the CPU is free."""

    def __init__(self, engine: Any, milliseconds: float, on_gpu: bool) -> None:
        """Take the engine with the answers, how long they take, and whether frames overlap."""
        self.name, self.on_gpu = f'made up, {milliseconds:g} ms', on_gpu
        self.inputs, self.outputs = engine.inputs, engine.outputs
        self._seconds, self._engine = milliseconds / 1e3, engine
        self._answer: Arrays | None = None

    def run(self, arrays: Arrays) -> Arrays:
        """Return the answer after its time."""
        if self._answer is None:
            self._answer = self._engine.run(arrays)
        time.sleep(self._seconds)
        return {name: array.copy() for name, array in self._answer.items()}

    def close(self) -> None:
        """Close the engine with the answers."""
        self._engine.close()


@dataclass(frozen=True)
class Result:
    """One case: frames a second, median and p95 of the latency, milliseconds, CPU in cores."""

    engine: str
    overlapping: bool
    hz: float
    median_ms: float
    p95_ms: float
    cores: float


def measured(
    predictor: Predictor, overlapping: bool, rate_hz: float, seconds: float, domain_id: int
) -> Result:
    """Run the node with a predictor for some seconds."""
    context = Context()
    rclpy.init(context=context, domain_id=domain_id)
    listener = Node('listener', context=context)
    for kind, topic in ((PointCloud2, 'occupancy'), (OccupancyGrid, 'bev')):
        listener.create_subscription(kind, f'/occ/{topic}', lambda _: None, 1, raw=True)
    overrides = [Parameter('extrinsics.rotation', value=FORWARD_XYZW)]
    node = OccNode(lambda *_: predictor, context=context, parameter_overrides=overrides)
    try:
        while not node.count_subscribers('/occ/bev'):
            time.sleep(0.05)
        _feed(node, rate_hz, WARM_S)
        before, cpu_s, began_s = node.snapshot(), time.process_time(), time.perf_counter()
        _feed(node, rate_hz, seconds)
        wall_s, now = time.perf_counter() - began_s, node.snapshot()
        cores = (time.process_time() - cpu_s) / wall_s
        hz = (now.processed - before.processed) / wall_s
        median_ms, late_ms = np.percentile(now.pipeline_ms, (50, 95)).tolist()
    finally:
        node.destroy_node()
        listener.destroy_node()
        context.try_shutdown()
    return Result(predictor.engine.name, overlapping, hz, median_ms, late_ms, cores)


def _feed(node: OccNode, rate_hz: float, seconds: float) -> None:
    """Hand images over as the subscriptions would, at the rate of a camera."""
    noise = np.random.default_rng(0).integers(0, 256, (376, 1241, 3), dtype=np.uint8)
    info = info_from_camera(CAMERA)
    end_s = next_s = time.perf_counter()
    end_s += seconds
    while next_s < end_s:
        next_s += 1 / rate_hz
        time.sleep(max(next_s - time.perf_counter(), 0))
        image = image_from_rgb(noise)
        image.header.stamp, image.header.frame_id = stamp_from_ns(time.time_ns()), 'camera'
        image.encoding = 'bgr8'  # of most cameras: it has to be converted
        node._receive([Bundle(image, info)])


def predictor_of(folder: Path, milliseconds: float | None, overlapping: bool) -> Predictor:
    """Return the stored answers, on the CPU or by a made-up engine."""
    predictor = Predictor.from_model_dir(folder, 'onnxruntime', threads=1)
    engine: Any = predictor.engine
    if milliseconds is not None:
        engine = MadeUpEngine(engine, milliseconds, overlapping)
    else:
        engine.on_gpu = overlapping
    predictor.engine = engine
    return predictor


def cases(folder: Path, rate_hz: float, seconds: float, domain_id: int) -> list[Result]:
    """Measure every engine, one by one and overlapping in turn."""
    results = []
    for milliseconds in (None, 5.0, 20.0):
        for overlapping in (False, True):
            predictor = predictor_of(folder, milliseconds, overlapping)
            results.append(measured(predictor, overlapping, rate_hz, seconds, domain_id))
    return results


def report(results: list[Result]) -> str:
    """Return the results as a Markdown table."""
    head = ('engine', 'frames', 'Hz', 'latency median [ms]', 'p95 [ms]', 'CPU [cores]')
    rows = [
        (
            result.engine,
            'overlapping' if result.overlapping else 'one by one',
            f'{result.hz:.1f}',
            f'{result.median_ms:.1f}',
            f'{result.p95_ms:.1f}',
            f'{result.cores:.2f}',
        )
        for result in results
    ]
    return '\n'.join(table(head, rows, 2))


def main(arguments: list[str] | None = None) -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog='python -m benchmark.overlap', description=__doc__)
    parser.add_argument('--rate', type=float, default=100.0, help='images a second (default: 100)')
    parser.add_argument('--seconds', type=float, default=8.0, help='per case (default: 8)')
    parser.add_argument('--domain', type=int, default=96, help='ROS_DOMAIN_ID (default: 96)')
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        folder = stored_answers(Path(temporary) / 'stored', IMAGE_SIZE, street(GRID, OCCUPIED))
        print(report(cases(folder, args.rate, args.seconds, args.domain)))
    return 0


if __name__ == '__main__':
    sys.exit(main())
