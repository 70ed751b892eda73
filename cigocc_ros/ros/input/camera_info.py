"""CameraInfo -> the geometry of a published image, and rectification where it is still raw."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo

from cigocc_ros.core.camera import CameraModel, camera_from_info
from cigocc_ros.core.errors import CalibrationError
from cigocc_ros.core.text import excerpt
from cigocc_ros.ros.dropped import DroppedFrame, opencv

Map = NDArray[np.float32]
# Images of a wrong size are accepted where width and height differ by one factor, within a pixel.
PINHOLE_MODELS = ('plumb_bob', 'rational_polynomial', '')
FISHEYE_MODELS = ('equidistant', 'fisheye')


@dataclass(frozen=True)
class ImageGeometry:
    """How the pixels of an image topic relate to the rectified camera that the model sees.

    maps: the raw pixel (x, y) of each rectified pixel, two (H, W) float32; None for an image
    that is rectified already. rescaled: the image has another size than its CameraInfo says.
    """

    camera: CameraModel
    maps: tuple[Map, Map] | None = None
    rescaled: bool = False

    def rectify(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the rectified (H, W, 3) image; black where the raw image has nothing."""
        if self.maps is None:
            return image
        cv2 = _opencv()
        rectified: NDArray[np.uint8] = cv2.remap(image, *self.maps, cv2.INTER_LINEAR)
        return rectified

    def rectify_depth(self, depth_m: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return rectified (H, W) metres by nearest pixel; 0, unknown, outside the raw image."""
        if self.maps is None:
            return depth_m
        cv2 = _opencv()
        rectified: NDArray[np.float32] = cv2.remap(depth_m, *self.maps, cv2.INTER_NEAREST)
        return rectified


def is_raw(info: CameraInfo, topic: str, rectification: str) -> bool:
    """Say whether images of `topic` still carry lens distortion.

    `rectification` is 'rectified', 'raw' or 'auto'. auto: D without a non-zero coefficient means
    rectified, and so does a topic named ...rect... (image_proc leaves D in the CameraInfo).
    """
    if rectification != 'auto':
        return rectification == 'raw'
    return any(info.d) and 'rect' not in topic


def geometry_from_info(info: CameraInfo, size: tuple[int, int], raw: bool) -> ImageGeometry:
    """Return the geometry of an image of `size` (width, height) with this CameraInfo.

    ROI, binning and another image size of the same shape are followed. Raises DroppedFrame
    (camera_info_invalid, camera_info_size, unknown_distortion).
    """
    try:
        published = _camera(info, info.p)
        camera = _fitted(published, size)
        maps = _rectification(info, camera, size) if raw else None
    except CalibrationError as error:
        raise DroppedFrame('camera_info_invalid', f'camera_info: {error}') from error
    return ImageGeometry(camera, maps, rescaled=(published.width, published.height) != size)


def info_key(info: CameraInfo, size: tuple[int, int]) -> tuple[Any, ...]:
    """Return a key that is equal exactly when `geometry_from_info` gives the same answer."""
    roi = info.roi
    window = (roi.x_offset, roi.y_offset, roi.width, roi.height, info.binning_x, info.binning_y)
    matrices = tuple(np.asarray(values).tobytes() for values in (info.k, info.d, info.r, info.p))
    return (size, info.width, info.height, info.distortion_model, *window, *matrices)


def info_from_camera(camera: CameraModel) -> CameraInfo:
    """Return the CameraInfo of a rectified camera, without header."""
    info = CameraInfo(width=camera.width, height=camera.height, distortion_model='plumb_bob')
    info.d = [0.0] * 5
    info.k = camera.intrinsics.ravel().tolist()
    info.r = np.eye(3).ravel().tolist()
    info.p = camera.projection.ravel().tolist()
    return info


def _camera(info: CameraInfo, p: Sequence[float]) -> CameraModel:
    roi = (info.roi.x_offset, info.roi.y_offset, info.roi.width, info.roi.height)
    binning = (info.binning_x, info.binning_y)
    return camera_from_info(info.width, info.height, info.k, p, roi=roi, binning=binning)


def _fitted(camera: CameraModel, size: tuple[int, int]) -> CameraModel:
    """Return `camera` rescaled to an image of `size`; raise where the shapes differ."""
    width, height = size
    if (camera.width, camera.height) == size:
        return camera
    difference = abs(width * camera.height - height * camera.width)
    if difference > max(camera.width, camera.height, width, height):
        raise DroppedFrame(
            'camera_info_size',
            f'the image is {width}x{height} but camera_info is of {camera.width}x{camera.height}, '
            'another shape: is camera_info remapped to the topic of this camera?',
        )
    return camera.rescale(width, height)


def _rectification(
    info: CameraInfo, camera: CameraModel, size: tuple[int, int]
) -> tuple[Map, Map]:
    """Return the maps from the rectified camera to the raw image, both of `size`."""
    raw_camera = _fitted(_camera(info, [0.0] * 12), size)
    rotation = np.asarray(info.r, dtype=np.float64).reshape(3, 3)
    if not math.isclose(float(np.linalg.det(rotation)), 1.0, abs_tol=1e-3):
        raise CalibrationError(f'R must be a rotation, found {rotation.tolist()}')
    distortion = np.asarray(info.d, dtype=np.float64)
    if not np.isfinite(distortion).all():
        raise CalibrationError(f'D must be finite, found {excerpt(distortion.tolist())}')
    cv2 = _opencv()
    if info.distortion_model in PINHOLE_MODELS:
        undistort = cv2.initUndistortRectifyMap
    elif info.distortion_model in FISHEYE_MODELS:
        undistort, distortion = cv2.fisheye.initUndistortRectifyMap, distortion[:4]
    else:
        raise DroppedFrame(
            'unknown_distortion',
            f'distortion_model {excerpt(info.distortion_model)}: expected one of '
            f'{[name for name in PINHOLE_MODELS + FISHEYE_MODELS if name]}',
        )
    target = np.ascontiguousarray(camera.intrinsics)
    source = np.ascontiguousarray(raw_camera.intrinsics)
    try:
        maps = undistort(source, distortion, rotation, target, size, cv2.CV_32FC1)
    except cv2.error as error:  # a D of a length that the model does not know, a singular K
        raise CalibrationError(
            f'K, D ({len(distortion)} numbers), R and P make no rectification: {error}'
        ) from error
    return maps[0], maps[1]


def _opencv() -> ModuleType:
    return opencv('rectifying raw images', '; or remap `image` to a rectified topic')
