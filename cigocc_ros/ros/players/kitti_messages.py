"""Frames of a KITTI recording as ROS messages, and where its cameras stand."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from geometry_msgs.msg import Quaternion, Transform, TransformStamped, Vector3
from numpy.typing import NDArray
from sensor_msgs.msg import Image

from cigocc_ros.core.files import write_atomically
from cigocc_ros.core.point_records import depth_pixels
from cigocc_ros.data.recording import TOPICS, Kind, Recording
from cigocc_ros.data.rig import StaticPose
from cigocc_ros.ros.input.camera_info import info_from_camera
from cigocc_ros.ros.output.clouds import byte_array, cloud_from_points, header


def image_from_rgb(image: NDArray[np.uint8]) -> Image:
    """Return an rgb8 Image of (H, W, 3) uint8, without header."""
    height, width = image.shape[:2]
    message = Image(height=height, width=width, encoding='rgb8', step=3 * width)
    message.data = byte_array(image)
    return message


def image_from_depth(depth_m: NDArray[np.float32]) -> Image:
    """Return a 32FC1 Image of (H, W) metres, unknown (0) as NaN (REP-118), without header."""
    height, width = depth_m.shape
    message = Image(height=height, width=width, encoding='32FC1', step=4 * width)
    message.data = byte_array(depth_pixels(depth_m))
    return message


def image_from_labels(ids: NDArray[np.uint8]) -> Image:
    """Return a mono8 Image of class ids (h, w), without header."""
    height, width = ids.shape
    message = Image(height=height, width=width, encoding='mono8', step=width)
    message.data = byte_array(ids)
    return message


MAKERS: dict[Kind, Callable[[Any], Any]] = {
    'image': image_from_rgb,
    'camera_info': info_from_camera,
    'depth': image_from_depth,
    'labels': image_from_labels,
    'cloud': lambda points: cloud_from_points(points, header(0, '')),
}


def frame_messages(recording: Recording, frame_id: str, topics: Collection[str]) -> dict[str, Any]:
    """Return topic -> message, frames set, for those of `topics` that the frame has."""
    messages = {}
    for topic in topics:
        item = recording.item(topic, frame_id)
        if item is not None:
            messages[topic] = MAKERS[TOPICS[topic].kind](item.content)
            messages[topic].header.frame_id = item.frame_id
    return messages


def write_extrinsics(path: Path, pose: StaticPose) -> None:
    """Write the parameter file that tells the node `occ` where the left camera stands."""
    extrinsics = {
        'source': 'parameters',
        'translation': list(pose.translation_m),
        'rotation': list(pose.rotation_xyzw),
    }
    parameters = {'output_frame': pose.parent, 'extrinsics': extrinsics}
    content = {'/**': {'ros__parameters': parameters}}
    write_atomically(path, yaml.safe_dump(content, sort_keys=False))


def static_transform(pose: StaticPose, stamp_ns: int) -> TransformStamped:
    """Return a pose for /tf_static."""
    x, y, z = pose.translation_m
    quaternion = dict(zip('xyzw', pose.rotation_xyzw, strict=True))
    return TransformStamped(
        header=header(stamp_ns, pose.parent),
        child_frame_id=pose.child,
        transform=Transform(translation=Vector3(x=x, y=y, z=z), rotation=Quaternion(**quaternion)),
    )
