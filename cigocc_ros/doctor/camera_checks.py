"""The images, their calibration and the pose of the camera, as the node will read them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from rclpy.qos import DurabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage

from cigocc_ros.core.camera import CameraModel
from cigocc_ros.core.errors import CigoccError
from cigocc_ros.doctor.finding import Finding, fail, ok, warn
from cigocc_ros.doctor.observation import Heard, Observation, TopicView
from cigocc_ros.ros.input.camera_info import (
    ImageGeometry,
    geometry_from_info,
    geometry_of_topic,
    implausible,
    view_deg,
)
from cigocc_ros.ros.input.images import decode_rgb
from cigocc_ros.ros.stamps import stamp_to_ns

REMAP = (
    'remap both to one camera: ros2 launch cigocc_ros occ.launch.py image:=... camera_info:=...'
)
CALIBRATE = 'ros2 run camera_calibration cameracalibrator ..., then load its YAML in the driver'
RATE_RATIO = 0.8
STALE_S = 5.0


def check_stream(view: TopicView, heard: Heard, duration_s: float) -> Finding:
    """Check that messages arrive."""
    check = f'messages on {view.name}'
    if heard.count:
        return ok(check, f'{heard.count} in {duration_s:.0f} s, {heard.rate_hz:.1f} Hz')
    fix = f'ros2 topic hz {view.name}; if that is silent too, look at the camera driver'
    return fail(check, f'none in {duration_s:.0f} s', 'images at the rate of the camera', fix)


def check_camera(seen: Observation) -> Iterator[Finding]:
    """Check image and CameraInfo, alone and together."""
    image, info = seen.images.last, seen.infos.last
    size: tuple[int, int] | None = None
    if image is not None:
        try:
            height, width = decode_rgb(image).shape[:2]
            size = width, height
            encoding = image.format if isinstance(image, CompressedImage) else image.encoding
            yield ok('image', f'{width}x{height} {encoding}')
        except CigoccError as error:
            fix = 'set another encoding in the driver (rgb8, bgr8, mono8)'
            yield fail('image', str(error), 'an image that can be decoded', fix)
        yield check_stamp(seen)
    if info is not None:
        yield from check_calibration(info)
    if info is not None and size is not None:
        yield check_sizes(seen, info, size)
        yield from check_doubts(seen, info, size)
        yield from check_together(seen)


def check_sizes(seen: Observation, info: CameraInfo, size: tuple[int, int]) -> Finding:
    """Check that the CameraInfo is of images of this size."""
    try:
        geometry = _geometry(seen, info, size)
    except CigoccError as error:
        expected = f'camera_info that fits images of {size[0]}x{size[1]}'
        return fail('camera_info size', str(error), expected, REMAP)
    if geometry.rescaled:
        found = f'camera_info is of {info.width}x{info.height}, images are {size[0]}x{size[1]}'
        fix = 'publish the camera_info of the resized image (image_proc resize does)'
        return warn('camera_info size', f'{found}: rescaled', 'one size', fix)
    state = 'rectified' if geometry.maps is None else 'raw, rectified by the node'
    return ok('camera_info size', f'{size[0]}x{size[1]} like the images; taken as {state}')


def check_doubts(seen: Observation, info: CameraInfo, size: tuple[int, int]) -> Iterator[Finding]:
    """Say what the node will do with an image though it may be wrong (docs/trust.md)."""
    try:
        doubts = _geometry(seen, info, size).doubts
    except CigoccError:
        return  # a finding of `check_sizes`
    advice = {
        'rectification': ('a topic whose name agrees with its camera_info', 'docs/trust.md'),
        'camera_info_offset': ('P[:,3] of zeros, as of a single camera', 'docs/camera.md'),
    }
    for name, text in doubts.items():
        if name in advice:
            yield warn(name.replace('_', ' '), text, *advice[name])


def _geometry(seen: Observation, info: CameraInfo, size: tuple[int, int]) -> ImageGeometry:
    topic = seen.image.name.removesuffix('/compressed')
    return geometry_of_topic(info, size, topic, seen.rectification)


def check_together(seen: Observation) -> Iterator[Finding]:
    """Compare rates and frames of image and camera_info."""
    image, info = seen.images, seen.infos
    rates = f'images at {image.rate_hz:.1f} Hz, camera_info at {info.rate_hz:.1f} Hz'
    slow = info.rate_hz < RATE_RATIO * image.rate_hz or info.count < 2 <= image.count
    if info.count == 1 and _latched(seen.info):
        yield ok('rates', f'images at {image.rate_hz:.1f} Hz, camera_info once, kept for all')
    elif slow:
        yield warn('rates', rates, 'one camera_info for each image', REMAP)
    else:
        yield ok('rates', rates)
    frames = image.last.header.frame_id, info.last.header.frame_id
    if not frames[0]:
        yield fail(
            'frame_id', 'images without frame_id', 'a frame known to tf', 'set it in the driver'
        )
    elif frames[0] != frames[1]:
        found = f'images in {frames[0]!r}, camera_info in {frames[1]!r}'
        yield warn('frame_id', found, 'one optical frame', REMAP)
    else:
        yield ok('frame_id', repr(frames[0]))


def _latched(view: TopicView) -> bool:
    """Say whether every publisher keeps its last message for those who come late."""
    kept = [e.qos.durability == DurabilityPolicy.TRANSIENT_LOCAL for e in view.publishers]
    return bool(kept) and all(kept)


def check_stamp(seen: Observation) -> Finding:
    """Check that stamps are of this clock."""
    stamp_ns = stamp_to_ns(seen.images.last.header.stamp)
    age_s = 1e-9 * (seen.now_ns - stamp_ns)
    if stamp_ns == 0:
        return warn('stamp', '0', 'the time of exposure', 'set the stamp in the driver')
    if abs(age_s) > STALE_S:
        fix = 'with a bag: --clock and use_sim_time:=true; else synchronise the clocks (chrony)'
        return warn('stamp', f'{age_s:.1f} s old', f'less than {STALE_S:.0f} s', fix)
    return ok('stamp', f'{age_s:.2f} s old')


def check_calibration(info: CameraInfo) -> list[Finding]:
    """Check that the numbers of a CameraInfo can be those of a camera."""
    try:
        camera = geometry_from_info(info, (info.width, info.height), raw=False).camera
    except CigoccError as error:
        expected = 'a calibrated camera'
        return [fail('camera_info', str(error), expected, CALIBRATE)]
    return [_plausible(camera, info)]


def _plausible(camera: CameraModel, info: CameraInfo) -> Finding:
    fx, fy = camera.intrinsics[0, 0], camera.intrinsics[1, 1]
    cx, cy = camera.intrinsics[0, 2], camera.intrinsics[1, 2]
    model = info.distortion_model or 'no distortion model'
    found = f'fx {fx:.1f}, fy {fy:.1f}, cx {cx:.1f}, cy {cy:.1f}'
    found += f', {view_deg(camera):.0f} degrees wide, {model}'
    wrong = implausible(camera)
    if wrong:
        return warn('camera_info', found, wrong.removeprefix('camera_info: expected '), CALIBRATE)
    return ok('camera_info', found)


FORWARD_COSINE = 0.5
"""Of the angle between optical axis and x of the grid: beyond 60 degrees little of it is seen."""
UP_COSINE = 0.5
HEIGHT_M = (-1.5, 1.0)
"""Of cameras in a frame 1.73 m above the road. With a frame on the road, cars have them above."""


def check_pose(seen: Observation) -> Finding:
    """Check that the pose is known, that the camera looks into the grid and stands upright."""
    frame = seen.images.last.header.frame_id if seen.images.last is not None else ''
    check = f'pose of {frame!r} in {seen.output_frame!r}'
    if seen.pose.cam_from_velo is None:
        if not frame and seen.pose.source == 'tf':
            found, fix = 'no image, so its frame is unknown', 'mend the image topic first'
        else:
            found = seen.pose.problem
            fix = (
                f'join the root of the tree of {frame} to that of {seen.output_frame}: ros2 run '
                'tf2_ros static_transform_publisher --frame-id base_link --child-frame-id ROOT '
                '(docs/cameras.md names the roots of known drivers), or set extrinsics.*'
            )
        return fail(check, found, f'a transform {seen.output_frame} <- {frame}', fix)
    # as people read it; + 0.0 turns -0.0 into 0.0
    velo_from_cam = np.round(np.linalg.inv(seen.pose.cam_from_velo), 2) + 0.0
    x, y, z = velo_from_cam[:3, 3]
    axis, down = velo_from_cam[:3, 2], velo_from_cam[:3, 1]
    found = (
        f'from {seen.pose.source}: at ({x:.2f}, {y:.2f}, {z:.2f}) m, looks along '
        f'({axis[0]:.2f}, {axis[1]:.2f}, {axis[2]:.2f})'
    )
    fix = 'use the optical frame (x right, y down, z forward) in tf and in the header of images'
    if axis[0] < FORWARD_COSINE:
        return warn(check, found, 'an optical axis along x of the grid, (1, 0, 0)', fix)
    if -down[2] < UP_COSINE:
        return warn(check, f'{found}, tilted to the side', 'y of the camera downwards', fix)
    if not HEIGHT_M[0] <= z <= HEIGHT_M[1]:
        expected = f'z between {HEIGHT_M[0]} and {HEIGHT_M[1]} m'
        fix = f'docs/camera.md: {seen.output_frame} is about 1.7 m above the road, not on it'
        return warn(check, found, expected, fix)
    return ok(check, found)
