"""What one camera of a frame sees: image, depth and classes, from files or from the lidar.

The right camera of a real pair is a view of its own: mirrored, the pair is a left-right pair whose
left camera it is, and the lidar gives depth and classes to it as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.camera import CameraModel, stereo_pair
from cigocc_ros.core.labels import IGNORE, train_from_raw
from cigocc_ros.core.projection import project_points, unproject
from cigocc_ros.data.kitti_sequence import KittiSequence, Side
from cigocc_ros.data.stereo_config import DEFAULT_STEREO, StereoConfig
from cigocc_ros.data.stereo_depth import stereo_depth_m
from cigocc_ros.runtime.preprocess import ImageFit, fit_camera

OCCLUDER_WINDOW_PX = 5
"""A lidar point is hidden where another one within this window is clearly nearer."""
OCCLUDER_RATIO = 1.1
"""How much farther than its nearest neighbour a point may be and still count as seen."""


@dataclass(frozen=True)
class FrameView:
    """One camera of one frame, fitted to the model's input; each file is read once.

    image_size: (H, W) of the model's input.
    """

    sequence: KittiSequence
    frame_id: str
    image_size: tuple[int, int]
    side: Side = 'left'

    @property
    def camera(self) -> CameraModel:
        """The camera at the size of the files."""
        return self.sequence.camera_left if self.side == 'left' else self.sequence.camera_right

    @cached_property
    def fit(self) -> ImageFit:
        """How an image of the camera becomes the model's input."""
        return fit_camera(self.camera, self.image_size)

    @cached_property
    def image(self) -> NDArray[np.uint8]:
        """The image as it lies on disk, (H, W, 3) uint8 rgb."""
        return self.sequence.image(self.frame_id, self.side)

    @property
    def has_pair(self) -> bool:
        """Whether the frame has an image of the other camera."""
        return self.sequence.image_path(self.frame_id, self._other).is_file()

    @property
    def has_stereo_depth(self) -> bool:
        """Whether a stereo network left its depth of this camera."""
        return self.side == 'left' and self.sequence.has_stereo_depth(self.frame_id)

    def matched_depth(self, config: StereoConfig = DEFAULT_STEREO) -> NDArray[np.float32]:
        """Return the matcher's metres, (H, W), 0 = unknown; DataFileError without a pair."""
        pair = stereo_pair(self.sequence.camera_left, self.sequence.camera_right)
        other = self.sequence.image(self.frame_id, self._other)
        if self.side == 'left':
            return stereo_depth_m(self.image, other, *pair, config=config)
        mirrored = stereo_depth_m(_mirrored(self.image), _mirrored(other), *pair, config=config)
        return np.ascontiguousarray(mirrored[:, ::-1])

    @cached_property
    def depth(self) -> NDArray[np.float32]:
        """Measured metres at the model's size, (H, W) float32, 0 = unknown.

        From the depth image, which belongs to the left camera, else from the lidar scan. Raises
        DataFileError where there is neither.
        """
        if self.side == 'left' and self.sequence.has_depth(self.frame_id):
            return self.fit.apply_depth(self.sequence.depth(self.frame_id))
        return self._lidar[0]

    @property
    def has_measured_depth(self) -> bool:
        """Whether a depth image or a scan measured what this camera sees."""
        has_image = self.side == 'left' and self.sequence.has_depth(self.frame_id)
        return has_image or self.sequence.has_velodyne(self.frame_id)

    @cached_property
    def dense_depth(self) -> NDArray[np.float32]:
        """Metres that a stereo network says, at the model's size, (H, W) float32, 0 = unknown.

        The network saw the left image; the right camera gets its pixels by their disparity, the
        nearest one where several meet, none where the left camera does not see. Raises
        DataFileError where no network has been.
        """
        depth_m = self.sequence.stereo_depth(self.frame_id)
        if self.side == 'left':
            return self.fit.apply_depth(depth_m)
        return repainted_depth(depth_m, self.sequence.camera_left, self.fit.camera_in)

    @cached_property
    def classes(self) -> NDArray[np.uint8]:
        """Train ids at the model's size, (H, W) uint8, 255 = unknown.

        From the class image, else from the labelled lidar scan, else all unknown.
        """
        if not self.classes_are_sparse:
            return self.fit.apply_nearest(self.sequence.semantic_image(self.frame_id), IGNORE)
        if not self.sequence.has_point_labels(self.frame_id):
            return np.full(self.image_size, IGNORE, dtype=np.uint8)
        return self._lidar[1]

    @cached_property
    def classes_are_sparse(self) -> bool:
        """Whether the classes are those of lidar points, one pixel each."""
        return not (self.side == 'left' and self.sequence.has_semantic_image(self.frame_id))

    @property
    def _other(self) -> Side:
        return 'right' if self.side == 'left' else 'left'

    @cached_property
    def _lidar(self) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Depth and classes of the scan, each (H, W) of the model's input."""
        return paint_scan(self.sequence, self.frame_id, self.camera, self.fit.camera_in)


def paint_scan(
    sequence: KittiSequence, frame_id: str, photographed: CameraModel, camera: CameraModel
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return depth and classes of a lidar scan, each (H, W) of `camera`.

    `photographed` is the camera of the file, of which `camera` shows a part: what lies outside of
    it is not in the picture.
    """
    points = sequence.velodyne(frame_id)[:, :3]
    labels = np.full(len(points), IGNORE, dtype=np.uint8)
    if sequence.has_point_labels(frame_id):
        labels = train_from_raw(sequence.point_labels(frame_id))
        labels[labels == 0] = IGNORE  # raw 0 is an unlabelled point, not empty space
    _, _, inside = project_points(points, photographed, sequence.cam_from_velo)
    points, labels = points[inside], labels[inside]
    pixel_uv, depth_m, seen = project_points(points, camera, sequence.cam_from_velo)
    size = (camera.height, camera.width)
    return paint_points(pixel_uv[seen], depth_m[seen], labels[seen], size)


def repainted_depth(
    depth_m: NDArray[np.float32], seen_by: CameraModel, camera: CameraModel
) -> NDArray[np.float32]:
    """Return depth (H, W) metres, 0 = unknown, of one camera of a rectified pair as another's."""
    row, column = np.nonzero(depth_m > 0)
    unmoved = np.eye(4)
    pixels = np.stack([column, row], axis=-1).astype(np.float64)
    points = unproject(pixels, depth_m[row, column].astype(np.float64), seen_by, unmoved)
    pixel_uv, moved_m, seen = project_points(points, camera, unmoved)
    classes = np.full(int(seen.sum()), IGNORE, dtype=np.uint8)
    return paint_points(pixel_uv[seen], moved_m[seen], classes, (camera.height, camera.width))[0]


def measured_depth(sequence: KittiSequence, frame_id: str) -> NDArray[np.float32]:
    """Return the left camera's measured metres at its own size, (H, W) float32, 0 = unknown."""
    if sequence.has_depth(frame_id):
        return sequence.depth(frame_id)
    camera = sequence.camera_left
    return paint_scan(sequence, frame_id, camera, camera)[0]


def paint_points(
    pixel_uv: NDArray[np.float64],
    depth_m: NDArray[np.float64],
    labels: NDArray[np.uint8],
    size: tuple[int, int],
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Paint points (N, 2), (N,), (N,) into images (H, W): metres, 0 = none; ids, 255 = none.

    The nearest point of a pixel wins. Points that look through the gaps between nearer ones, which
    the lidar sees from another place than the camera, are left out.
    """
    import cv2

    height, width = size
    column, row = np.rint(pixel_uv).astype(np.int64).T
    column, row = np.clip(column, 0, width - 1), np.clip(row, 0, height - 1)
    far_first = np.argsort(-depth_m, kind='stable')
    row, column = row[far_first], column[far_first]
    depth = np.full(size, np.inf, dtype=np.float32)
    depth[row, column] = depth_m[far_first]  # the last one written, the nearest, stays
    classes = np.full(size, IGNORE, dtype=np.uint8)
    classes[row, column] = labels[far_first]
    window = np.ones((OCCLUDER_WINDOW_PX, OCCLUDER_WINDOW_PX), dtype=np.uint8)
    hidden = depth / OCCLUDER_RATIO > cv2.erode(depth, window)
    classes[hidden] = IGNORE
    return np.where(hidden | np.isinf(depth), np.float32(0), depth), classes


def _mirrored(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(image[:, ::-1])
