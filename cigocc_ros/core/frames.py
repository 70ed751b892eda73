"""The two objects that cross layer borders: a camera frame in, an occupancy out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.camera import CameraModel
from cigocc_ros.core.errors import FrameError
from cigocc_ros.core.grid import VoxelGrid
from cigocc_ros.core.labels import EMPTY, NUM_CLASSES, spread_voxels
from cigocc_ros.core.projection import check_transform

NANOSECONDS = 1_000_000_000
"""Of a second; stamps are whole nanoseconds."""
LIDAR_FRAME = 'velo_link'
"""Frame of the voxels unless told otherwise: the lidar of KITTI, x forward, y left, z up."""


@dataclass(frozen=True)
class CameraFrame:
    """One rectified image with its calibration.

    image: (H, W, 3) uint8 rgb. cam_from_velo: (4, 4), camera reference frame from grid frame.
    depth_m: (H, W) float32 metres along the optical axis, 0 where unknown; None without a prior.
    classes: (h, w) uint8 train ids of any size that shows the same view, 0 where unknown, as a
    segmentation network gives them; None without.
    stamp_ns: acquisition time. frame_id: the image's; grid_frame_id: the frame of the output.
    """

    image: NDArray[np.uint8]
    camera: CameraModel
    cam_from_velo: NDArray[np.float64]
    stamp_ns: int
    frame_id: str
    grid_frame_id: str = LIDAR_FRAME
    depth_m: NDArray[np.float32] | None = None
    classes: NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        """Raise FrameError where image, camera and depth do not fit each other."""
        if self.image.dtype != np.uint8 or self.image.ndim != 3 or self.image.shape[2] != 3:
            found = f'{self.image.dtype} {self.image.shape}'
            raise FrameError(f'image must be uint8 (H, W, 3) rgb, found {found}')
        size = (self.camera.height, self.camera.width)
        if self.image.shape[:2] != size:
            raise FrameError(
                f'image is {self.image.shape[1]}x{self.image.shape[0]} but its camera is '
                f'{self.camera.width}x{self.camera.height}: rescale the camera model first'
            )
        object.__setattr__(
            self, 'cam_from_velo', check_transform(self.cam_from_velo, 'extrinsics')
        )
        if self.depth_m is not None:
            _check_depth(self.depth_m, size)
        if self.classes is not None:
            _check_classes(self.classes)


def _check_depth(depth_m: NDArray[np.float32], size: tuple[int, int]) -> None:
    """Raise FrameError unless depth is (H, W) float32, finite and not negative."""
    if depth_m.dtype != np.float32 or depth_m.shape != size:
        found = f'{depth_m.dtype} {depth_m.shape}'
        raise FrameError(f'depth_m must be float32 {size} like the image, found {found}')
    # NaN passes through min and max and compares as false
    if not (depth_m.min() >= 0 and depth_m.max() < np.inf):
        raise FrameError('depth_m must be finite and not negative; mark unknown pixels with 0')


def _check_classes(classes: NDArray[np.uint8]) -> None:
    """Raise FrameError unless classes are an image of train ids."""
    if classes.dtype != np.uint8 or classes.ndim != 2 or classes.size == 0:
        found = f'{classes.dtype} {classes.shape}'
        raise FrameError(f'classes must be a uint8 image (h, w) of train ids, found {found}')
    if classes.max() >= NUM_CLASSES:
        raise FrameError(
            f'classes must be 0..{NUM_CLASSES - 1}, 0 where unknown, found {classes.max()}: map '
            'the ids of the segmentation network to train ids first'
        )


@dataclass(frozen=True)
class Occupancy:
    """A semantic voxel map of one frame.

    labels: (X, Y, Z) uint8 train ids 0..19. probability: (X, Y, Z) uint8, 255 times the
    probability of being occupied. frame_id: the frame `grid` is given in. class_probability:
    (X, Y, Z) uint8, 255 times that of the class, given that the voxel is occupied; None where the
    model does not say it. What is occupied is what has a label other than empty.
    """

    labels: NDArray[np.uint8]
    probability: NDArray[np.uint8]
    grid: VoxelGrid
    stamp_ns: int
    frame_id: str
    class_probability: NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        """Raise FrameError where the arrays do not fit the grid."""
        for name in ('labels', 'probability', 'class_probability'):
            array = getattr(self, name)
            if array is None and name == 'class_probability':
                continue
            if array.dtype != np.uint8 or array.shape != self.grid.shape:
                found = f'{array.dtype} {array.shape}'
                raise FrameError(f'{name} must be uint8 {self.grid.shape}, found {found}')
        if self.labels.max(initial=0) >= NUM_CLASSES:
            raise FrameError(f'labels must be 0..{NUM_CLASSES - 1}, found {self.labels.max()}')

    @property
    def occupied(self) -> NDArray[np.bool_]:
        """Mask of the voxels that are not empty, (X, Y, Z)."""
        mask: NDArray[np.bool_] = self.labels != EMPTY
        return mask

    @cached_property
    def occupied_index(self) -> NDArray[np.int64]:
        """Ascending indices of those voxels into the raveled grid, (N,), found once per frame."""
        return np.flatnonzero(self.labels.ravel() != EMPTY)

    def class_counts(self) -> NDArray[np.int64]:
        """Return the number of voxels per train id, (20,)."""
        return np.bincount(self.labels.ravel(), minlength=NUM_CLASSES)


def labels_on_grid(occupancy: Occupancy, grid: VoxelGrid) -> NDArray[np.uint8]:
    """Return the train ids on a finer grid of the same extent, (X, Y, Z): each voxel's nearest.

    Raises FrameError unless `grid` divides every voxel of the occupancy into whole parts.
    """
    _require_finer(occupancy.grid, grid)
    return spread_voxels(occupancy.labels, grid.shape)


def probability_on_grid(occupancy: Occupancy, grid: VoxelGrid) -> NDArray[np.uint8]:
    """Return 255 times the probability of being occupied, as `labels_on_grid` does the ids."""
    _require_finer(occupancy.grid, grid)
    return spread_voxels(occupancy.probability, grid.shape)


def class_probability_on_grid(occupancy: Occupancy, grid: VoxelGrid) -> NDArray[np.uint8] | None:
    """Return 255 times the probability of the class, as `labels_on_grid`; None where unsaid."""
    if occupancy.class_probability is None:
        return None
    _require_finer(occupancy.grid, grid)
    return spread_voxels(occupancy.class_probability, grid.shape)


def _require_finer(coarse: VoxelGrid, grid: VoxelGrid) -> None:
    pairs = zip(grid.shape, coarse.shape, strict=True)
    if coarse.with_shape(grid.shape) != grid or any(fine % n for fine, n in pairs):
        raise FrameError(f'expected a grid that refines {coarse}, found {grid}')
