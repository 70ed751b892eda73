"""The images, their calibration and the pose of the camera, as the node will read them."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage

from cigocc_ros.core.camera import CameraModel
from cigocc_ros.core.errors import CigoccError
from cigocc_ros.doctor.finding import Finding, fail, ok, warn
from cigocc_ros.doctor.observation import Heard, Observation, TopicView
from cigocc_ros.ros.input.camera_info import geometry_from_info, is_raw
from cigocc_ros.ros.input.images import decode_rgb
from cigocc_ros.ros.stamps import stamp_to_ns

REMAP = (
    'remap both to one camera: ros2 launch cigocc_ros occ.launch.py image:=... camera_info:=...'
)
CALIBRATE = 'ros2 run camera_calibration cameracalibrator ..., then load its YAML in the driver'
RATE_RATIO = 0.8
STALE_S = 5.0
FIELD_OF_VIEW_DEG = (15.0, 150.0)
FOCAL_RATIO = 1.25
"""fx and fy of real cameras are nearly equal; resizing without keeping the shape is not."""
CENTRE_SHARE = 0.25
"""How far the principal point may lie from the centre, as a share of the image size."""


def check_stream(view: TopicView, heard: Heard, duration_s: float) -> Finding:
    """Check that messages arrive."""
    check = f'messages on {view.name}'
    if heard.count:
        return ok(check, f'{heard.count} in {duration_s:.0f} s, {heard.rate_hz:.1f} Hz')
    mend = f'ros2 topic hz {view.name}; if that is silent too, look at the camera driver'
    return fail(check, f'none in {duration_s:.0f} s', 'images at the rate of the camera', mend)


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
            mend = 'set another encoding in the driver (rgb8, bgr8, mono8)'
            yield fail('image', str(error), 'an image that can be decoded', mend)
        yield check_stamp(seen)
    if info is not None:
        yield from check_calibration(info)
    if info is not None and size is not None:
        yield check_sizes(seen, info, size)
        yield from check_together(seen)


def check_sizes(seen: Observation, info: CameraInfo, size: tuple[int, int]) -> Finding:
    """Check that the CameraInfo is of images of this size."""
    raw = is_raw(info, seen.image.name, seen.rectification)
    try:
        geometry = geometry_from_info(info, size, raw)
    except CigoccError as error:
        expected = f'camera_info that fits images of {size[0]}x{size[1]}'
        return fail('camera_info size', str(error), expected, REMAP)
    if geometry.rescaled:
        found = f'camera_info is of {info.width}x{info.height}, images are {size[0]}x{size[1]}'
        mend = 'publish the camera_info of the resized image (image_proc resize does)'
        return warn('camera_info size', f'{found}: rescaled', 'one size', mend)
    state = 'raw, rectified by the node' if raw else 'rectified'
    return ok('camera_info size', f'{size[0]}x{size[1]} like the images; taken as {state}')


def check_together(seen: Observation) -> Iterator[Finding]:
    """Compare rates and frames of image and camera_info."""
    image, info = seen.images, seen.infos
    rates = f'images at {image.rate_hz:.1f} Hz, camera_info at {info.rate_hz:.1f} Hz'
    slow = info.rate_hz < RATE_RATIO * image.rate_hz or info.count < 2 <= image.count
    if slow:
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


def check_stamp(seen: Observation) -> Finding:
    """Check that stamps are of this clock."""
    stamp_ns = stamp_to_ns(seen.images.last.header.stamp)
    age_s = 1e-9 * (seen.now_ns - stamp_ns)
    if stamp_ns == 0:
        return warn('stamp', '0', 'the time of exposure', 'set the stamp in the driver')
    if abs(age_s) > STALE_S:
        mend = 'with a bag: --clock and use_sim_time:=true; else synchronise the clocks (chrony)'
        return warn('stamp', f'{age_s:.1f} s old', f'less than {STALE_S:.0f} s', mend)
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
    view_deg = math.degrees(2 * math.atan(camera.width / (2 * fx)))
    found = (
        f'fx {fx:.1f}, fy {fy:.1f}, cx {cx:.1f}, cy {cy:.1f}, {view_deg:.0f} degrees wide, '
        f'{info.distortion_model or "no distortion model"}'
    )
    wrong = []
    if not FIELD_OF_VIEW_DEG[0] <= view_deg <= FIELD_OF_VIEW_DEG[1]:
        wrong.append('a field of view of {:.0f} to {:.0f} degrees'.format(*FIELD_OF_VIEW_DEG))
    if not 1 / FOCAL_RATIO <= fx / fy <= FOCAL_RATIO:
        wrong.append('fx near fy')
    off_x, off_y = abs(cx / camera.width - 0.5), abs(cy / camera.height - 0.5)
    if off_x > CENTRE_SHARE or off_y > CENTRE_SHARE:
        wrong.append(f'a principal point near the centre of {camera.width}x{camera.height}')
    if wrong:
        return warn('camera_info', found, '; '.join(wrong), CALIBRATE)
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
            found, mend = 'no image, so its frame is unknown', 'mend the image topic first'
        else:
            found = seen.pose.problem
            mend = (
                f'ros2 run tf2_ros static_transform_publisher --frame-id {seen.output_frame} '
                f'--child-frame-id {frame} ..., or set extrinsics.* (docs/camera.md)'
            )
        return fail(check, found, f'a transform {seen.output_frame} <- {frame}', mend)
    # as people read it; + 0.0 turns -0.0 into 0.0
    velo_from_cam = np.round(np.linalg.inv(seen.pose.cam_from_velo), 2) + 0.0
    x, y, z = velo_from_cam[:3, 3]
    axis, down = velo_from_cam[:3, 2], velo_from_cam[:3, 1]
    found = (
        f'from {seen.pose.source}: at ({x:.2f}, {y:.2f}, {z:.2f}) m, looks along '
        f'({axis[0]:.2f}, {axis[1]:.2f}, {axis[2]:.2f})'
    )
    mend = 'use the optical frame (x right, y down, z forward) in tf and in the header of images'
    if axis[0] < FORWARD_COSINE:
        return warn(check, found, 'an optical axis along x of the grid, (1, 0, 0)', mend)
    if -down[2] < UP_COSINE:
        return warn(check, f'{found}, tilted to the side', 'y of the camera downwards', mend)
    if not HEIGHT_M[0] <= z <= HEIGHT_M[1]:
        expected = f'z between {HEIGHT_M[0]} and {HEIGHT_M[1]} m'
        mend = f'docs/camera.md: {seen.output_frame} is about 1.7 m above the road, not on it'
        return warn(check, found, expected, mend)
    return ok(check, found)
