"""Frames of a KITTI recording as ROS messages, and where its cameras stand."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import yaml
from geometry_msgs.msg import Quaternion, Transform, TransformStamped, Vector3

from cigocc_ros.core.atomic import write_atomically
from cigocc_ros.data.kitti_recording import TOPICS, Kind, Recording
from cigocc_ros.data.kitti_rig import StaticPose
from cigocc_ros.ros.camera_info import info_from_camera
from cigocc_ros.ros.clouds import cloud_from_points, header
from cigocc_ros.ros.conversions import image_from_depth, image_from_rgb

MAKERS: dict[Kind, Callable[[Any], Any]] = {
    'image': image_from_rgb,
    'camera_info': info_from_camera,
    'depth': image_from_depth,
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
