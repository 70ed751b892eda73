"""CameraInfo -> the geometry of a published image, and rectification where it is still raw."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo

from cigocc_ros.core.camera import CameraModel, camera_from_info
from cigocc_ros.core.errors import CalibrationError
from cigocc_ros.core.text import excerpt
from cigocc_ros.ros.dropped import DroppedFrame, opencv

Map = NDArray[np.float32]
Pixel = TypeVar('Pixel', np.float32, np.uint8)
RAW, RECTIFIED = 'raw', 'rectified'
PINHOLE_MODELS = ('plumb_bob', 'rational_polynomial', '')
FISHEYE_MODELS = ('equidistant', 'fisheye')
NO_MODELS = ('none', 'pinhole')
"""Words of simulators for a lens without distortion; believed where D agrees."""
FISHEYE_COEFFICIENTS = 4
RECTIFIED_WORDS = {'rect', 'rectified'}
RAW_WORDS = {'raw', 'unrect', 'unrectified', 'distorted'}
SAME_PX, SAME_ROTATION = 0.5, 1e-4
"""How far K and P, or R and no rotation, may differ and still be taken for the same."""
FIELD_OF_VIEW_DEG = (15.0, 150.0)
FOCAL_RATIO = 1.25
"""fx and fy of real cameras are nearly equal; resizing without keeping the shape is not."""
CENTRE_SHARE = 0.25
"""How far the principal point may lie from the centre, as a share of the image size."""


@dataclass(frozen=True)
class ImageGeometry:
    """How the pixels of an image topic relate to the rectified camera that the model sees.

    camera: P as it is published, for an image of this size. maps: the raw pixel (x, y) of each
    rectified pixel, two (H, W) float32; None for an image that is rectified already. rescaled: the
    image has another size than its CameraInfo says. distorted: whether D says that the lens is.
    doubts: what may be wrong all the same, by a short name.
    """

    camera: CameraModel
    maps: tuple[Map, Map] | None = None
    rescaled: bool = False
    distorted: bool = False
    doubts: Mapping[str, str] = field(default_factory=dict)

    def rectify(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the rectified (H, W, 3) image; black where the raw image has nothing."""
        if self.maps is None:
            return image
        cv2 = _opencv()
        rectified: NDArray[np.uint8] = cv2.remap(image, *self.maps, cv2.INTER_LINEAR)
        return rectified

    def rectify_nearest(self, values: NDArray[Pixel]) -> NDArray[Pixel]:
        """Return rectified depth or classes, (H, W), by nearest pixel; 0, unknown, outside."""
        if self.maps is None:
            return values
        cv2 = _opencv()
        rectified: NDArray[Pixel] = cv2.remap(values, *self.maps, cv2.INTER_NEAREST)
        return rectified


def is_raw(info: CameraInfo, topic: str, rectification: str) -> tuple[bool, str]:
    """Say whether images of `topic` still carry lens distortion, and what makes that doubtful.

    `rectification` is 'rectified', 'raw' or 'auto'. auto: a fisheye model means raw, whatever D
    is; so does a D with a non-zero coefficient. Against both stands only a topic whose name says
    rect or rectified, for image_proc leaves model and D in the CameraInfo: that is doubtful. A
    topic that says raw is raw wherever D, R or K tell of something to rectify.
    """
    if rectification != 'auto':
        return rectification == RAW, ''
    words, model = _words(topic), info.distortion_model
    fisheye, lens = model in FISHEYE_MODELS, any(info.d)
    said = f'distortion_model {model or "plumb_bob"}, D {"not zero" if lens else "zero"}'
    if fisheye or lens:
        if words & RECTIFIED_WORDS:
            doubt = (
                f'{topic} is taken as rectified for its name, against its camera_info ({said}): '
                'if it is, set rectification to rectified; if not, to raw'
            )
            return False, doubt
        ideal = f'camera_info has {said}: taken as an ideal fisheye lens'
        return True, '' if lens else ideal
    if not _needs_rectification(info):
        return False, ''
    if words & RAW_WORDS:
        return True, ''
    return False, '' if words & RECTIFIED_WORDS else (
        f'{topic} is taken as rectified, for D is zero, but K is not that of P, or R turns: set '
        'rectification to say which it is'
    )


def _words(topic: str) -> set[str]:
    """Return the words of the last part of a name: /camera/image_rect_color says rect."""
    return set(re.split(r'[^a-z0-9]+', topic.lower().rpartition('/')[2]))


def _needs_rectification(info: CameraInfo) -> bool:
    """Say whether rectifying an image without distortion would still change it."""
    k, p = (np.asarray(m, dtype=np.float64) for m in (info.k, info.p))
    r = np.asarray(info.r, dtype=np.float64).reshape(3, 3)
    turned = r.any() and not np.allclose(r, np.eye(3), atol=SAME_ROTATION)
    other = (
        p.any()
        and k.any()
        and not np.allclose(p.reshape(3, 4)[:, :3], k.reshape(3, 3), atol=SAME_PX)
    )
    return bool(turned or other)


def geometry_of_topic(
    info: CameraInfo, size: tuple[int, int], topic: str, rectification: str
) -> ImageGeometry:
    """Return the geometry of an image of a topic, with all that is doubtful about it.

    Raises DroppedFrame as `geometry_from_info` does, also for distortion models that are not known
    unless `rectification` says that the images are rectified.
    """
    known = info.distortion_model in PINHOLE_MODELS + FISHEYE_MODELS
    without = info.distortion_model in NO_MODELS and not any(info.d)
    if rectification != RECTIFIED and not known and not without:
        raise _unknown_distortion(info)
    raw, doubt = is_raw(info, topic, rectification)
    geometry = geometry_from_info(info, size, raw)
    doubts = {'rectification': doubt, **_doubts_of_camera(geometry.camera)}
    return replace(geometry, doubts={name: text for name, text in doubts.items() if text})


def _doubts_of_camera(camera: CameraModel) -> dict[str, str]:
    """Return what P says that the picture of a single camera can hardly be."""
    (tx, ty, tz), doubts = camera.offset, {}
    if camera.offset.any():
        doubts['camera_info_offset'] = (
            f'P[:,3] is ({tx:g}, {ty:g}, {tz:g}): this is a camera of a pair, and not the first. '
            'It is taken to stand where tf has the frame_id of its images; P[:,3] is not added '
            '(docs/camera.md)'
        )
    return {**doubts, 'camera_info_numbers': implausible(camera)}


def implausible(camera: CameraModel) -> str:
    """Say what the numbers of a camera should be where they are hardly those of a real one."""
    fx, fy = camera.intrinsics[0, 0], camera.intrinsics[1, 1]
    cx, cy = camera.intrinsics[0, 2], camera.intrinsics[1, 2]
    wrong = []
    if not FIELD_OF_VIEW_DEG[0] <= view_deg(camera) <= FIELD_OF_VIEW_DEG[1]:
        wrong.append('a field of view of {:.0f} to {:.0f} degrees'.format(*FIELD_OF_VIEW_DEG))
    if not 1 / FOCAL_RATIO <= fx / fy <= FOCAL_RATIO:
        wrong.append('fx near fy')
    off_x, off_y = abs(cx / camera.width - 0.5), abs(cy / camera.height - 0.5)
    if off_x > CENTRE_SHARE or off_y > CENTRE_SHARE:
        wrong.append(f'a principal point near the centre of {camera.width}x{camera.height}')
    return f'camera_info: expected {"; ".join(wrong)}' if wrong else ''


def view_deg(camera: CameraModel) -> float:
    """Return the horizontal field of view in degrees."""
    fx = float(camera.intrinsics[0, 0])
    return math.degrees(2 * math.atan(camera.width / (2 * fx)))


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
    rescaled = (published.width, published.height) != size
    return ImageGeometry(camera, maps, rescaled, distorted=any(info.d))


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
    if info.distortion_model in PINHOLE_MODELS + NO_MODELS:
        undistort = cv2.initUndistortRectifyMap
    elif info.distortion_model in FISHEYE_MODELS:
        if len(distortion) != FISHEYE_COEFFICIENTS:
            raise CalibrationError(
                f'{info.distortion_model} needs {FISHEYE_COEFFICIENTS} numbers in D, found '
                f'{len(distortion)}'
            )
        undistort = cv2.fisheye.initUndistortRectifyMap
    else:
        raise _unknown_distortion(info)
    target = np.ascontiguousarray(camera.intrinsics)
    source = np.ascontiguousarray(raw_camera.intrinsics)
    try:
        maps = undistort(source, distortion, rotation, target, size, cv2.CV_32FC1)
    except cv2.error as error:  # a D of a length that the model does not know, a singular K
        raise CalibrationError(
            f'K, D ({len(distortion)} numbers), R and P make no rectification: {error}'
        ) from error
    return maps[0], maps[1]


def _unknown_distortion(info: CameraInfo) -> DroppedFrame:
    return DroppedFrame(
        'unknown_distortion',
        f'distortion_model {excerpt(info.distortion_model)}: expected one of '
        f'{[name for name in PINHOLE_MODELS + FISHEYE_MODELS if name]}, or rectified images and '
        'the parameter rectification:=rectified',
    )


def _opencv() -> ModuleType:
    return opencv('rectifying raw images', '; or remap `image` to a rectified topic')
