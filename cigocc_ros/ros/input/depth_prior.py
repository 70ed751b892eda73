"""The depth prior of a frame: from the depth topic, or by matching the stereo pair.

What a sensor says of itself is compared with what the image says: depth of another camera, or two
images that are no rectified pair, make voxels that look right and are wrong.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.camera import CameraModel, stereo_pair
from cigocc_ros.core.errors import CalibrationError
from cigocc_ros.core.text import excerpt
from cigocc_ros.data.stereo_config import DEFAULT_STEREO, StereoConfig
from cigocc_ros.ros.dropped import DroppedFrame
from cigocc_ros.ros.input.camera_info import ImageGeometry, Pixel

Rgb = NDArray[np.uint8]
Depth = NDArray[np.float32]
REGISTERED_PX = 2.0
"""How far the pixels of a point may lie apart in image and depth image."""


def check_frames(image_frame: str, depth_frame: str) -> str:
    """Return what is doubtful about the frame of a depth image; DroppedFrame for another one."""
    if not depth_frame:
        return 'the depth images carry no frame_id: nothing says that they are registered'
    if depth_frame != image_frame:
        raise DroppedFrame(
            'prior_frame',
            f'depth is of frame {excerpt(depth_frame)}, the image of {excerpt(image_frame)}: '
            'depth must be registered to the image, by the driver (align_depth) or by '
            'depth_image_proc',
        )
    return ''


def registered_depth(depth: Depth, image: ImageGeometry, own: ImageGeometry | None) -> Depth:
    """Return the depth of the rectified image, (H, W) metres; raise DroppedFrame.

    own: the geometry of the depth images by their own CameraInfo, at their size; None where that
    is not published. Depth of another size but the same shape is sampled to the nearest pixel.
    """
    if not depth.any():
        raise DroppedFrame('prior_empty', 'the depth image has no pixel with a depth')
    if own is not None:
        _require_registration(image, own)
    fitted = _resized(depth, image.camera)
    rectified_already = own is not None and own.maps is None and image.maps is not None
    return fitted if rectified_already else image.rectify_nearest(fitted)


def _require_registration(image: ImageGeometry, own: ImageGeometry) -> None:
    """Raise DroppedFrame unless both cameras see a point at the same pixel."""
    if own.maps is not None and image.maps is None:
        raise DroppedFrame(
            'prior_calibration', 'depth is raw by its camera_info, but the image is rectified'
        )
    camera, depth = image.camera, own.camera
    scaled = depth.rescale(camera.width, camera.height).intrinsics
    corners = np.array([[0, 0, 1], [camera.width, camera.height, 1.0]]).T
    rays = np.linalg.solve(camera.intrinsics, corners)
    apart_px = float(np.abs(scaled @ rays - corners).max())
    if apart_px > REGISTERED_PX:
        raise DroppedFrame(
            'prior_calibration',
            f'by its camera_info, depth lies up to {apart_px:.0f} px beside the image: depth must '
            'be registered to the image',
        )


def _resized(depth_m: Depth, camera: CameraModel) -> Depth:
    check_shape(depth_m.shape, camera, 'prior_size', 'depth image')
    return nearest_pixels(depth_m, camera)


def check_shape(shape: tuple[int, ...], camera: CameraModel, reason: str, what: str) -> None:
    """Raise DroppedFrame unless an image of (H, W) has the shape of the camera's, up to a pixel.

    Another size is fine: it shows the same view.
    """
    height, width = shape
    apart = abs(width * camera.height - height * camera.width)
    if apart > max(camera.width, camera.height, width):
        raise DroppedFrame(
            reason,
            f'the {what} is {width}x{height}, the image {camera.width}x{camera.height}, '
            f'another shape: the {what} must show what the image shows, pixel by pixel',
        )


def nearest_pixels(values: NDArray[Pixel], camera: CameraModel) -> NDArray[Pixel]:
    """Return an image (h, w) of the camera's view at its size, each pixel the nearest one."""
    height, width = values.shape
    if (width, height) == (camera.width, camera.height):
        return values
    row = (2 * np.arange(camera.height) + 1) * height // (2 * camera.height)
    column = (2 * np.arange(camera.width) + 1) * width // (2 * camera.width)
    nearest: NDArray[Pixel] = values[row[:, None], column]
    return nearest


def stereo_prior(
    left_rgb: Rgb,
    left: ImageGeometry,
    right_rgb: Rgb,
    right: ImageGeometry,
    config: StereoConfig = DEFAULT_STEREO,
) -> Depth:
    """Match a rectified pair and return the left depth, (H, W) metres; raise DroppedFrame."""
    from cigocc_ros.data.stereo_depth import stereo_depth_m

    if left_rgb.shape != right_rgb.shape:
        raise DroppedFrame(
            'prior_size', f'left image {left_rgb.shape}, right image {right_rgb.shape}'
        )
    if (left.maps is None) != (right.maps is None):
        state = {True: 'rectified', False: 'raw'}
        raise DroppedFrame(
            'prior_calibration',
            f'the left image is {state[left.maps is None]}, the right one '
            f'{state[right.maps is None]} by its camera_info: remap both to topics of one kind',
        )
    try:
        pair = stereo_pair(left.camera, right.camera)
    except CalibrationError as error:
        raise DroppedFrame('prior_calibration', str(error)) from error
    depth: Depth = stereo_depth_m(left_rgb, right_rgb, *pair, config=config)
    return depth


def pair_doubt(left: ImageGeometry, right: ImageGeometry) -> str:
    """Say what is doubtful about two geometries taken as a pair."""
    if left.distorted != right.distorted and left.maps is None:
        return 'one camera_info of the pair has distortion, the other none: one rectification?'
    return ''
