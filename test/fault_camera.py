"""A camera as a process: `fault_camera.py RATE_HZ [--frames N] [--ros-args ...]`.

Publishes `image` and `camera_info` with rising stamps of the present, reliable, depth 1.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import CameraInfo, Image

from cigocc_ros.core.camera import CameraModel
from cigocc_ros.ros.input.camera_info import info_from_camera
from cigocc_ros.ros.players.kitti_messages import image_from_rgb
from cigocc_ros.ros.stamps import stamp_from_ns

CAMERA = CameraModel.from_intrinsics(80, 80, 40, 24, 80, 48)


def main() -> int:
    """Publish until SIGINT, or N frames."""
    parser = argparse.ArgumentParser()
    parser.add_argument('rate_hz', type=float)
    parser.add_argument('--frames', type=int, default=0)
    args = parser.parse_args(remove_ros_args(sys.argv)[1:])
    rclpy.init(args=sys.argv)
    node = rclpy.create_node('camera')
    images, infos = (
        node.create_publisher(k, t, 1) for k, t in ((Image, 'image'), (CameraInfo, 'camera_info'))
    )
    image = image_from_rgb(np.full((48, 80, 3), 200, np.uint8))
    info, sent = info_from_camera(CAMERA), 0

    def publish() -> None:
        nonlocal sent
        for message in (info, image):
            message.header.stamp = stamp_from_ns(time.time_ns())
            message.header.frame_id = 'camera_optical'
        infos.publish(info)
        images.publish(image)
        sent += 1
        if args.frames and sent >= args.frames:
            raise ExternalShutdownException

    node.create_timer(1 / args.rate_hz, publish)
    print('sending', flush=True)
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        print(f'sent {sent}', flush=True)
    return 0


if __name__ == '__main__':
    sys.exit(main())
