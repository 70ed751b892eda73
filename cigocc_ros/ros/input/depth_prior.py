"""The depth prior of a frame: from the depth topic, or by matching the stereo pair."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo

from cigocc_ros.core.camera import CameraModel, stereo_focal_baseline
from cigocc_ros.core.errors import CalibrationError
from cigocc_ros.ros.dropped import DroppedFrame
from cigocc_ros.ros.input.camera_info import ImageGeometry
from cigocc_ros.ros.input.images import AnyImage, depth_from_image

Rgb = NDArray[np.uint8]
Depth = NDArray[np.float32]


def depth_prior(message: AnyImage, geometry: ImageGeometry) -> Depth:
    """Return the depth of the rectified image, (H, W) metres; raise DroppedFrame.

    A depth image of another size but the same shape is sampled to the nearest pixel.
    """
    camera = geometry.camera
    depth: Depth = depth_from_image(message).depth_m
    if not depth.any():
        raise DroppedFrame('prior_empty', 'the depth image has no pixel with a depth')
    return geometry.rectify_depth(_resized(depth, camera))


def _resized(depth_m: Depth, camera: CameraModel) -> Depth:
    height, width = depth_m.shape
    if (width, height) == (camera.width, camera.height):
        return depth_m
    if abs(width * camera.height - height * camera.width) > max(
        camera.width, camera.height, width
    ):
        raise DroppedFrame(
            'prior_size',
            f'the depth image is {width}x{height}, the image {camera.width}x{camera.height}, '
            'another shape: depth must be registered to the image',
        )
    row = (2 * np.arange(camera.height) + 1) * height // (2 * camera.height)
    column = (2 * np.arange(camera.width) + 1) * width // (2 * camera.width)
    nearest: Depth = depth_m[row[:, None], column]
    return nearest


def stereo_prior(left_rgb: Rgb, left: CameraModel, right_rgb: Rgb, right: CameraModel) -> Depth:
    """Match a rectified pair and return the left depth, (H, W) metres; raise DroppedFrame."""
    from cigocc_ros.data.stereo_depth import stereo_depth_m

    if left_rgb.shape != right_rgb.shape:
        raise DroppedFrame(
            'prior_size', f'left image {left_rgb.shape}, right image {right_rgb.shape}'
        )
    try:
        focal_baseline = stereo_focal_baseline(left, right)
    except CalibrationError as error:
        raise DroppedFrame('prior_calibration', str(error)) from error
    depth: Depth = stereo_depth_m(left_rgb, right_rgb, focal_baseline)
    return depth


def require_right_info(info: CameraInfo | None) -> CameraInfo:
    """Return the CameraInfo of the right image; raise DroppedFrame where none has come."""
    if info is None:
        raise DroppedFrame('prior_no_camera_info', 'no message on right/camera_info yet')
    return info
