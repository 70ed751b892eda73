"""Which files and functions a camera frame walks through: `python -m benchmark.frame_walk`.

The node runs in this process with a shipped model. Messages arrive over DDS; one subscriber of
~/occupancy listens. Every Python call of one frame is recorded, in both threads, from the callback
of its image to the end of its publishing. The reports of the node are left out.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

import cigocc_ros
from cigocc_ros.core.camera import CameraModel
from cigocc_ros.ros.input.camera_info import info_from_camera
from cigocc_ros.ros.node import OccNode
from cigocc_ros.ros.players.kitti_messages import image_from_rgb
from cigocc_ros.ros.stamps import stamp_from_ns

PACKAGE = str(Path(cigocc_ros.__file__).parent)
FORWARD_XYZW = [-0.5, 0.5, -0.5, 0.5]
WAIT_S = 60.0
SETTLED_S = 0.2
WARM_FRAMES = 2
"""The first ones fill caches."""


@dataclass
class Walk:
    """The calls of one frame, in the order in which they began."""

    calls: list[str] = field(default_factory=list)
    recording: bool = False

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        """Record a call into the package: a profile function of Python."""
        code = frame.f_code
        if self.recording and event == 'call' and code.co_filename.startswith(PACKAGE):
            file = code.co_filename.removeprefix(PACKAGE + '/')
            name = getattr(code, 'co_qualname', code.co_name)
            self.calls.append(f'{file}:{name}')

    @property
    def functions(self) -> list[str]:
        """Each function once, in the order of the first call; comprehensions are none."""
        return list(dict.fromkeys(c for c in self.calls if not c.endswith(('comp>', 'expr>'))))

    @property
    def files(self) -> list[str]:
        """Each file once, in the order of the first call."""
        return list(dict.fromkeys(call.partition(':')[0] for call in self.functions))

    def steps(self) -> list[str]:
        """Return the walk from file to file, with repetitions."""
        steps: list[str] = []
        for call in self.functions:
            file = call.partition(':')[0]
            if not steps or steps[-1] != file:
                steps.append(file)
        return steps


class Street:
    """The node, a camera and a subscriber in one process."""

    def __init__(self, domain_id: int, **parameters: Any) -> None:
        """Start them."""
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain_id)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.camera = Node('camera', context=self.context)
        self.clouds: list[PointCloud2] = []
        self.camera.create_subscription(PointCloud2, '/occ/occupancy', self.clouds.append, 1)
        self.images = self.camera.create_publisher(Image, 'image', 1)
        self.infos = self.camera.create_publisher(CameraInfo, 'camera_info', 1)
        overrides = [Parameter(name, value=value) for name, value in parameters.items()]
        self.node = OccNode(context=self.context, parameter_overrides=overrides)
        for node in (self.camera, self.node):
            self.executor.add_node(node)
        self.model = CameraModel.from_intrinsics(721, 721, 620, 188, 1241, 376)
        self._stamp_ns = time.time_ns()

    def spin_until(self, done: Callable[[], Any]) -> None:
        """Spin until `done`; raise TimeoutError after a minute."""
        deadline = time.monotonic() + WAIT_S
        while not done():
            if time.monotonic() > deadline:
                raise TimeoutError(f'nothing within {WAIT_S} s: {self.node.snapshot()}')
            self.executor.spin_once(timeout_sec=0.02)

    def messages(self) -> tuple[CameraInfo, Image]:
        """Return what the camera sends of its next frame."""
        self._stamp_ns += 100_000_000
        noise = np.random.default_rng(0).integers(0, 256, (376, 1241, 3), dtype=np.uint8)
        info, image = info_from_camera(self.model), image_from_rgb(noise)
        for message in (info, image):
            message.header.stamp = stamp_from_ns(self._stamp_ns)
            message.header.frame_id = 'camera'
        return info, image

    def one_frame(self, info: CameraInfo, image: Image) -> None:
        """Publish a frame, wait for its voxels and until the thread has put its tools away."""
        heard = len(self.clouds)
        self.infos.publish(info)
        self.images.publish(image)
        self.spin_until(lambda: len(self.clouds) > heard)
        time.sleep(SETTLED_S)

    def without_timers(self) -> None:
        """Stop the reports: they are no part of a frame."""
        for timer in self.node.timers:
            timer.cancel()

    def matched(self) -> bool:
        """Say whether everybody hears everybody."""
        cloud = self.node.count_subscribers('/occ/occupancy')
        return bool(
            cloud and self.images.get_subscription_count() and self.infos.get_subscription_count()
        )

    def close(self) -> None:
        """End everything."""
        self.executor.shutdown()
        self.node.destroy_node()
        self.camera.destroy_node()
        self.context.try_shutdown()


def walk_of(domain_id: int, **parameters: Any) -> Walk:
    """Return the walk of one frame after those that fill the caches."""
    walk = Walk()
    threading.setprofile(walk)  # the threads that the node starts record from their birth
    sys.setprofile(walk)
    try:
        street = Street(domain_id, **parameters)
        try:
            street.spin_until(street.matched)
            for _ in range(WARM_FRAMES):
                street.one_frame(*street.messages())
            messages = street.messages()
            street.without_timers()
            walk.recording = True
            street.one_frame(*messages)
            walk.recording = False
        finally:
            street.close()
    finally:
        threading.setprofile(None)
        sys.setprofile(None)
    return walk


def report(walk: Walk) -> str:
    """Return the numbers and the walk as text."""
    rooms = {str(Path(file).parent) for file in walk.files}
    head = f'{len(walk.files)} files in {len(rooms)} folders, {len(walk.functions)} functions'
    return f'{head}\n{" > ".join(walk.steps())}'


def main(arguments: list[str] | None = None) -> int:
    """Print the walk."""
    parser = argparse.ArgumentParser(prog='python -m benchmark.frame_walk', description=__doc__)
    parser.add_argument('--model', default='mid', help='model folder or name (default: mid)')
    parser.add_argument('--domain', type=int, default=97, help='ROS_DOMAIN_ID (default: 97)')
    parser.add_argument('--functions', action='store_true', help='also list the functions')
    args = parser.parse_args(arguments)
    walk = walk_of(
        args.domain,
        **{'model': args.model, 'extrinsics.rotation': FORWARD_XYZW},
    )
    print(report(walk))
    if args.functions:
        print('\n'.join(walk.functions))
    return 0


if __name__ == '__main__':
    sys.exit(main())
