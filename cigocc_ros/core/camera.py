"""A calibrated, rectified pinhole camera and what crop, rescale, pad and flip do to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cigocc_ros.core.errors import CalibrationError


@dataclass(frozen=True, eq=False)
class CameraModel:
    """A pinhole camera of `width` x `height` pixels; pixel centres lie at integer coordinates.

    `projection` (3, 4) float64 is [K | p]: it maps a point of the calibration's reference frame
    (KITTI: cam0) to homogeneous pixels. p carries KITTI's P2 offset; a ROS CameraInfo of a
    monocular camera has p = 0. Equal and hashed by value.
    """

    width: int
    height: int
    projection: NDArray[np.float64]

    def __post_init__(self) -> None:
        """Check and freeze the numbers."""
        matrix = np.array(self.projection, dtype=np.float64)
        if matrix.shape != (3, 4):
            raise CalibrationError(f'a projection must be (3, 4), found {matrix.shape}')
        if self.width <= 0 or self.height <= 0:
            raise CalibrationError(
                f'image size must be positive, found {self.width}x{self.height}'
            )
        if not np.isfinite(matrix).all():
            raise CalibrationError(f'a projection must be finite, found {matrix.tolist()}')
        if matrix[0, 0] <= 0 or matrix[1, 1] <= 0 or abs(matrix[2, 2] - 1.0) > 1e-6:
            raise CalibrationError(
                'a projection needs fx > 0, fy > 0 and P[2][2] = 1; found '
                f'fx={matrix[0, 0]}, fy={matrix[1, 1]}, P[2][2]={matrix[2, 2]}: '
                'an uncalibrated camera publishes zeros, calibrate it first'
            )
        matrix.flags.writeable = False
        object.__setattr__(self, 'width', int(self.width))
        object.__setattr__(self, 'height', int(self.height))
        object.__setattr__(self, 'projection', matrix)

    @classmethod
    def from_intrinsics(
        cls, fx: float, fy: float, cx: float, cy: float, width: int, height: int
    ) -> CameraModel:
        """Build a camera at the origin of its reference frame."""
        return cls(width, height, np.array([[fx, 0, cx, 0], [0, fy, cy, 0], [0, 0, 1, 0.0]]))

    @property
    def intrinsics(self) -> NDArray[np.float64]:
        """K, (3, 3) float64."""
        return self.projection[:, :3]

    @property
    def offset(self) -> NDArray[np.float64]:
        """Return p, (3,) float64: the fourth column of the projection."""
        return self.projection[:, 3]

    def centred(self) -> CameraModel:
        """Return the camera [K | 0]: at the origin of its own frame, whatever p says."""
        if not self.offset.any():
            return self
        return CameraModel(self.width, self.height, np.hstack([self.intrinsics, np.zeros((3, 1))]))

    @property
    def key(self) -> bytes:
        """Bytes that are equal exactly when two cameras are equal."""
        return np.array([self.width, self.height], np.int64).tobytes() + self.projection.tobytes()

    def __eq__(self, other: object) -> bool:
        """Compare by value."""
        return isinstance(other, CameraModel) and self.key == other.key

    def __hash__(self) -> int:
        """Hash by value."""
        return hash(self.key)

    def crop(self, left: int, top: int, width: int, height: int) -> CameraModel:
        """Return the camera of the sub-image starting at pixel (left, top)."""
        inside = left >= 0 and top >= 0 and left + width <= self.width
        if not inside or top + height > self.height:
            raise CalibrationError(
                f'crop {width}x{height}+{left}+{top} does not lie in {self.width}x{self.height}'
            )
        return CameraModel(width, height, _translated(self.projection, -left, -top))

    def rescale(self, width: int, height: int) -> CameraModel:
        """Return the camera of the resampled image; pixel areas map onto pixel areas.

        u' = (u + 0.5) * width / self.width - 0.5, so the image borders coincide.
        """
        scale_x, scale_y = width / self.width, height / self.height
        matrix = _translated(self.projection, 0.5, 0.5)
        matrix = np.diag([scale_x, scale_y, 1.0]) @ matrix
        return CameraModel(width, height, _translated(matrix, -0.5, -0.5))

    def pad(self, right: int = 0, bottom: int = 0) -> CameraModel:
        """Return the camera of the image extended to the right and at the bottom."""
        if right < 0 or bottom < 0:
            raise CalibrationError(f'padding must not be negative, found {right}, {bottom}')
        return CameraModel(self.width + right, self.height + bottom, self.projection)

    def flipped(self) -> CameraModel:
        """Return the camera of the mirrored image in the mirrored world (x_cam -> -x_cam).

        u' = width - 1 - u, written for points whose camera x is negated.
        """
        mirror_image = np.array([[-1.0, 0, self.width - 1], [0, 1, 0], [0, 0, 1]])
        matrix = mirror_image @ self.projection @ np.diag([-1.0, 1, 1, 1])
        return CameraModel(self.width, self.height, matrix)


def _translated(projection: NDArray[np.float64], du: float, dv: float) -> NDArray[np.float64]:
    """Return the projection whose pixels are shifted by (du, dv)."""
    shift = np.array([[1.0, 0, du], [0, 1, dv], [0, 0, 1]])
    return shift @ projection


def camera_from_info(
    width: int,
    height: int,
    k: ArrayLike,
    p: ArrayLike,
    *,
    roi: Sequence[int] = (0, 0, 0, 0),
    binning: Sequence[int] = (1, 1),
) -> CameraModel:
    """Build the camera of a published image from the numbers of a sensor_msgs/CameraInfo.

    `width`, `height`, `k` (9) and `p` (12) describe the full-resolution sensor; `roi` is
    (x_offset, y_offset, width, height), all zeros for the whole image; `binning` (x, y), 0 and 1
    both mean none. P is used where it is set, else K. Raises CalibrationError.
    """
    k_matrix = np.asarray(k, dtype=np.float64).reshape(3, 3)
    p_matrix = np.asarray(p, dtype=np.float64).reshape(3, 4)
    if not p_matrix.any():
        p_matrix = np.hstack([k_matrix, np.zeros((3, 1))])
    camera = CameraModel(width, height, p_matrix)
    x_offset, y_offset, roi_width, roi_height = (int(value) for value in roi)
    if roi_width and roi_height:
        camera = camera.crop(x_offset, y_offset, roi_width, roi_height)
    bin_x, bin_y = (max(int(value), 1) for value in binning)
    if (bin_x, bin_y) != (1, 1):
        camera = camera.rescale(camera.width // bin_x, camera.height // bin_y)
    return camera


class StereoPair(NamedTuple):
    """What turns disparities into depths: depth = focal_baseline / (disparity - cx_difference).

    focal_baseline: f*b in pixel-metres. cx_difference: cx of the left camera less that of the
    right one, pixels: the disparity of points at infinity. Both for images of the cameras' size.
    """

    focal_baseline: float
    cx_difference: float = 0.0


BASELINE_LIMITS_M = (0.01, 10.0)
FOCAL_TOLERANCE_PX = 0.5
"""How far pixels at the border may lie apart for two focal lengths."""
ROW_TOLERANCE_PX = 0.5
TILT_SHARE = 0.02
"""Of the baseline: how far the right camera may stand above or behind the left (KITTI: 0.005)."""


def stereo_pair(left: CameraModel, right: CameraModel) -> StereoPair:
    """Return the geometry of two rectified cameras; raise CalibrationError for no such pair.

    Rows and depths of both must be the same: size, fx, fy, cy, and a right camera that stands to
    the right. cx may differ, and is taken into account.
    """
    _require_one_rectification(left, right)
    ahead = left.projection[:, 3] - right.projection[:, 3]
    focal_baseline = float(ahead[0])
    baseline_m = focal_baseline / float(left.projection[0, 0])
    least_m, most_m = BASELINE_LIMITS_M
    if not focal_baseline > 0:
        raise CalibrationError(
            f'stereo needs P_left[0,3] - P_right[0,3] > 0, found {focal_baseline}: '
            'are left and right exchanged, or is the right P without its -f*b?'
        )
    if not least_m <= baseline_m <= most_m:
        raise CalibrationError(
            f'the cameras stand {baseline_m:g} m apart by P[0,3], expected {least_m} to {most_m} '
            'm: P[0,3] of the right camera is -f*b in pixel-metres'
        )
    if abs(ahead[1]) > TILT_SHARE * focal_baseline or abs(ahead[2]) > TILT_SHARE * baseline_m:
        raise CalibrationError(
            'the right camera does not stand beside the left one: P[:,3] differs by '
            f'{ahead.round(4).tolist()}, expected [f*b, 0, 0]; vertical pairs are not matched'
        )
    return StereoPair(focal_baseline, float(left.projection[0, 2] - right.projection[0, 2]))


def _require_one_rectification(left: CameraModel, right: CameraModel) -> None:
    if (left.width, left.height) != (right.width, right.height):
        raise CalibrationError(
            f'left and right camera are of {left.width}x{left.height} and '
            f'{right.width}x{right.height} pixels: no rectified pair'
        )
    k_left, k_right = left.intrinsics, right.intrinsics
    half = np.array([left.width / 2, left.height / 2])
    focal_px = half * np.abs(1 - np.diag(k_right)[:2] / np.diag(k_left)[:2])
    rows_px = abs(k_left[1, 2] - k_right[1, 2])
    if (focal_px > FOCAL_TOLERANCE_PX).any() or rows_px > ROW_TOLERANCE_PX:
        numbers = [
            f'fx {k[0, 0]:.2f}, fy {k[1, 1]:.2f}, cy {k[1, 2]:.2f}' for k in (k_left, k_right)
        ]
        raise CalibrationError(
            f'left ({numbers[0]}) and right ({numbers[1]}) are not of one rectification: '
            'calibrate and rectify both cameras together'
        )


def stereo_focal_baseline(left: CameraModel, right: CameraModel) -> float:
    """Return f*b in pixel-metres; raise CalibrationError as `stereo_pair` does."""
    return stereo_pair(left, right).focal_baseline
