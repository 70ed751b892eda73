"""One sequence folder, opened: frames, cameras, poses, and the files of each frame on demand.

kitti_layout says which folders there are, kitti_files and image_files read what lies in them.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.arrays import Floats
from cigocc_ros.core.camera import CameraModel
from cigocc_ros.core.errors import CalibrationError, DataFileError
from cigocc_ros.core.frames import NANOSECONDS
from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID, VoxelGrid
from cigocc_ros.core.projection import check_transform
from cigocc_ros.data import kitti_files as files
from cigocc_ros.data import kitti_layout as layout
from cigocc_ros.data.image_files import (
    read_depth_file,
    read_depth_image,
    read_image,
    read_semantic_image,
)

Side = Literal['left', 'right']
Bits = Literal['bin', 'invalid', 'occluded']
LEFT_ONLY: tuple[Side, ...] = ('left',)
FrameId = str | int
BITS: dict[Bits, layout.Part] = {
    'bin': layout.VOXEL_SCANS,
    'invalid': layout.VOXEL_INVALID,
    'occluded': layout.VOXEL_OCCLUDED,
}
PROJECTIONS: dict[Side, str] = {'left': 'P2', 'right': 'P3'}


class KittiSequence:
    """A sequence folder, checked once; files are read on demand.

    Frames are named by their id, '000005' (or the number 5), which is also their line in times.txt
    and poses.txt. Everything that a sequence may lack has a `has_...` that says whether it is
    there; asking for what is not there raises DataFileError.
    """

    def __init__(self, path: str | Path, grid: VoxelGrid = SEMANTIC_KITTI_GRID) -> None:
        """Open a folder; raise DataFileError naming everything it lacks, CalibrationError."""
        self.path = Path(path)
        self.grid = grid
        self._images = layout.IMAGES.files(self.path)
        _check_folder(self.path, bool(self._images))
        self.frame_ids: tuple[str, ...] = tuple(self._images)
        self.calib = files.read_calib(self.path / layout.CALIB, required=('P2', 'Tr'))
        self.times_s: Floats = self._per_frame(
            files.read_times(self.path / layout.TIMES), layout.TIMES
        )
        velo_to_cam = np.vstack([self.calib['Tr'], [0.0, 0.0, 0.0, 1.0]])
        self.cam_from_velo: Floats = check_transform(velo_to_cam, f'Tr of {self.path}/calib.txt')

    @property
    def name(self) -> str:
        """The folder's name, '00' to '21' in KITTI."""
        return self.path.name

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.frame_ids)

    @cached_property
    def camera_left(self) -> CameraModel:
        """The left colour camera, P2, at the size of its first image."""
        return self._camera('left')

    @cached_property
    def camera_right(self) -> CameraModel:
        """The right colour camera, P3, at the size of its first image."""
        return self._camera('right')

    @cached_property
    def has_right(self) -> bool:
        """Whether every left image has a right one."""
        return not self.frames_without_right

    @cached_property
    def frames_without_right(self) -> tuple[str, ...]:
        """Ids of the frames whose left image has no right one."""
        return tuple(i for i in self.frame_ids if i not in self._right_images)

    @property
    def has_poses(self) -> bool:
        """Whether there is a poses.txt."""
        return (self.path / layout.POSES).is_file()

    @property
    def voxel_ids(self) -> tuple[str, ...]:
        """Ids of the frames that have voxel labels, every fifth one in SemanticKITTI."""
        return tuple(frame_id for frame_id in self.frame_ids if self.has_voxel_labels(frame_id))

    def stamp_ns(self, frame_id: FrameId) -> int:
        """Return the time of a frame since the start of the recording, in nanoseconds."""
        return round(float(self.times_s[int(self._known(frame_id))]) * NANOSECONDS)

    def image(self, frame_id: FrameId, side: Side = 'left') -> NDArray[np.uint8]:
        """Return a rectified image, (H, W, 3) uint8 rgb."""
        image = read_image(self.image_path(frame_id, side))
        camera = self.camera_left if side == 'left' else self.camera_right
        self._check_size(image.shape, camera, self.image_path(frame_id, side))
        return image

    def image_path(self, frame_id: FrameId, side: Side = 'left') -> Path:
        """Return the file of an image, whether it is there or not."""
        known = self._known(frame_id)
        if side == 'left':
            return self._images[known]
        return self._right_images.get(known) or self._file(layout.RIGHT_IMAGES, known)

    @cached_property
    def _right_images(self) -> dict[str, Path]:
        return layout.RIGHT_IMAGES.files(self.path)

    def has_depth(self, frame_id: FrameId) -> bool:
        """Say whether a frame has a measured depth image."""
        return self._file(layout.DEPTH_IMAGES, frame_id).is_file()

    def depth(self, frame_id: FrameId) -> NDArray[np.float32]:
        """Return the depth image of the left camera, (H, W) float32 metres, 0 = unknown."""
        path = self._file(layout.DEPTH_IMAGES, frame_id)
        depth_m = read_depth_image(path)
        self._check_size(depth_m.shape, self.camera_left, path)
        return depth_m

    def has_stereo_depth(self, frame_id: FrameId) -> bool:
        """Say whether a stereo network left its depth of a frame in depth_stereo/."""
        return self._file(layout.STEREO_DEPTH, frame_id).is_file()

    def stereo_depth(self, frame_id: FrameId) -> NDArray[np.float32]:
        """Return the depth that a stereo network wrote, (H, W) float32 metres, 0 = unknown."""
        path = self._file(layout.STEREO_DEPTH, frame_id)
        depth_m = read_depth_file(path)
        self._check_size(depth_m.shape, self.camera_left, path)
        return depth_m

    def has_semantic_image(self, frame_id: FrameId) -> bool:
        """Say whether a frame has a class image."""
        return self._file(layout.CLASS_IMAGES, frame_id).is_file()

    def semantic_image(self, frame_id: FrameId) -> NDArray[np.uint8]:
        """Return the class image of the left camera, (H, W) uint8 train ids, 255 = unknown."""
        path = self._file(layout.CLASS_IMAGES, frame_id)
        labels = read_semantic_image(path)
        self._check_size(labels.shape, self.camera_left, path)
        return labels

    def has_velodyne(self, frame_id: FrameId) -> bool:
        """Say whether a frame has a lidar scan."""
        return self._file(layout.SCANS, frame_id).is_file()

    def velodyne(self, frame_id: FrameId) -> NDArray[np.float32]:
        """Return the scan, (N, 4) float32: x, y, z metres in the velodyne frame, remission."""
        return files.read_velodyne(self._file(layout.SCANS, frame_id))

    def has_point_labels(self, frame_id: FrameId) -> bool:
        """Say whether the points of a frame are labelled."""
        return self._file(layout.POINT_LABELS, frame_id).is_file()

    def point_labels(self, frame_id: FrameId) -> NDArray[np.uint16]:
        """Return the raw semantic id of each lidar point, (N,) uint16 (see train_from_raw)."""
        scan = self._file(layout.SCANS, frame_id)
        num_points = scan.stat().st_size // 16 if scan.is_file() else None
        return files.read_point_labels(self._file(layout.POINT_LABELS, frame_id), num_points)

    def has_voxel_labels(self, frame_id: FrameId) -> bool:
        """Say whether a frame has a labelled volume."""
        return self._file(layout.VOXEL_LABELS, frame_id).is_file()

    def voxel_labels(self, frame_id: FrameId) -> NDArray[np.uint8]:
        """Return train ids, (X, Y, Z) uint8; 255 where not scored or marked in .invalid."""
        labels = self._file(layout.VOXEL_LABELS, frame_id)
        invalid = self._file(layout.VOXEL_INVALID, frame_id)
        return files.read_target_labels(labels, invalid, self.grid.shape)

    def has_voxel_bits(self, frame_id: FrameId, kind: Bits) -> bool:
        """Say whether a frame has a bit volume of this kind."""
        return self._file(BITS[kind], frame_id).is_file()

    def voxel_bits(self, frame_id: FrameId, kind: Bits) -> NDArray[np.bool_]:
        """Return a bit volume, (X, Y, Z): occupied by the scan, invalid or occluded."""
        path = self._file(BITS[kind], frame_id)
        return files.read_voxel_bits(path, self.grid.shape)

    @cached_property
    def poses_cam(self) -> Floats:
        """World_from_cam0 of every line of poses.txt, (N, 4, 4); the world is the first cam0."""
        return self._per_frame(files.read_poses(self.path / layout.POSES), layout.POSES)

    def world_from_velo(self, frame_id: FrameId) -> Floats:
        """Return the lidar pose Tr^-1 pose Tr, (4, 4), in the lidar frame of the first pose."""
        world_from_cam = self.poses_cam[int(self._known(frame_id))]
        world_from_velo: Floats = (
            np.linalg.inv(self.cam_from_velo) @ world_from_cam @ self.cam_from_velo
        )
        return world_from_velo

    def _camera(self, side: Side) -> CameraModel:
        name = PROJECTIONS[side]
        if name not in self.calib:
            raise CalibrationError(f'{self.path}/calib.txt has no {name}, the {side} camera')
        height, width = read_image(self.image_path(self.frame_ids[0], side)).shape[:2]
        return CameraModel(width, height, self.calib[name])

    def _known(self, frame_id: FrameId) -> str:
        """Return the id as text; raise DataFileError where there is no such frame."""
        known = f'{frame_id:06d}' if isinstance(frame_id, int) else frame_id
        if known not in self._images:
            first, last = self.frame_ids[0], self.frame_ids[-1]
            raise DataFileError(f'{self.path} has frames {first}..{last}, asked for {frame_id!r}')
        return known

    def _file(self, part: layout.Part, frame_id: FrameId) -> Path:
        return part.file(self.path, self._known(frame_id))

    def _per_frame(self, rows: Floats, name: str) -> Floats:
        """Return the rows of times or poses; raise DataFileError where frames have none."""
        needed = int(self.frame_ids[-1]) + 1
        if len(rows) < needed:
            raise DataFileError(
                f'{self.path}/{name}: expected a line for each frame up to '
                f'{self.frame_ids[-1]} ({needed} lines), found {len(rows)}'
            )
        return rows

    def _check_size(self, shape: tuple[int, ...], camera: CameraModel, path: Path) -> None:
        if shape[:2] != (camera.height, camera.width):
            raise DataFileError(
                f'{path}: expected {camera.width}x{camera.height} like the first image of the '
                f'sequence, found {shape[1]}x{shape[0]}'
            )


def _check_folder(path: Path, has_images: bool) -> None:
    """Raise DataFileError naming everything that a sequence folder must have and has not."""
    if not path.is_dir():
        raise DataFileError(f'{path}: expected a sequence folder (.../sequences/00), found none')
    missing = [name for name in (layout.CALIB, layout.TIMES) if not (path / name).is_file()]
    if not has_images:
        missing.append(f'{layout.IMAGES.folder}/000000.png')
    if missing:
        found = sorted(entry.name for entry in path.iterdir())
        raise DataFileError(
            f'{path}: not a KITTI odometry sequence: {", ".join(missing)} missing, found '
            f'{", ".join(found) or "an empty folder"}'
        )
