"""One sequence folder in the layout of KITTI odometry / SemanticKITTI v1.1.

SS/calib.txt  SS/times.txt  SS/image_2/FFFFFF.png           always
SS/image_3  SS/velodyne  SS/labels  SS/poses.txt  SS/voxels where the data has them
SS/depth_2  SS/masks_2                                      synthetic scenes
SS/depth_stereo/FFFFFF.png or .npy                          what a stereo network said, if one did
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.camera import CameraModel
from cigocc_ros.core.errors import CalibrationError, DataFileError
from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID, VoxelGrid
from cigocc_ros.core.labels import IGNORE, train_from_raw
from cigocc_ros.core.projection import check_transform
from cigocc_ros.data import kitti_files as files
from cigocc_ros.data.image_files import (
    read_depth_file,
    read_depth_image,
    read_image,
    read_semantic_image,
)

Side = Literal['left', 'right']
FrameId = str | int
IMAGE_SUFFIXES = ('.png', '.jpg')
IMAGE_FOLDERS: dict[Side, str] = {'left': 'image_2', 'right': 'image_3'}
PROJECTIONS: dict[Side, str] = {'left': 'P2', 'right': 'P3'}
Array = NDArray[np.float64]


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
        _check_folder(self.path)
        self._images = _images(self.path / IMAGE_FOLDERS['left'])
        self.frame_ids: tuple[str, ...] = tuple(self._images)
        self.calib = files.read_calib(self.path / 'calib.txt', required=('P2', 'Tr'))
        self.times_s: Array = self._per_frame(files.read_times(self.path / 'times.txt'), 'times')
        velo_to_cam = np.vstack([self.calib['Tr'], [0.0, 0.0, 0.0, 1.0]])
        self.cam_from_velo: Array = check_transform(velo_to_cam, f'Tr of {self.path}/calib.txt')

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
        folder = self.path / IMAGE_FOLDERS['right']
        return folder.is_dir() and not set(self.frame_ids) - set(_images(folder))

    @property
    def has_poses(self) -> bool:
        """Whether there is a poses.txt."""
        return (self.path / 'poses.txt').is_file()

    @property
    def voxel_ids(self) -> tuple[str, ...]:
        """Ids of the frames that have voxel labels, every fifth one in SemanticKITTI."""
        return tuple(frame_id for frame_id in self.frame_ids if self.has_voxel_labels(frame_id))

    def stamp_ns(self, frame_id: FrameId) -> int:
        """Return the time of a frame since the start of the recording, in nanoseconds."""
        return round(float(self.times_s[int(self._known(frame_id))]) * 1e9)

    def image(self, frame_id: FrameId, side: Side = 'left') -> NDArray[np.uint8]:
        """Return a rectified image, (H, W, 3) uint8 rgb."""
        image = read_image(self.image_path(frame_id, side))
        camera = self.camera_left if side == 'left' else self.camera_right
        self._check_size(image.shape, camera, self.image_path(frame_id, side))
        return image

    def image_path(self, frame_id: FrameId, side: Side = 'left') -> Path:
        """Return the file of an image."""
        folder = self.path / IMAGE_FOLDERS[side]
        return _image_file(folder, self._known(frame_id))

    def has_depth(self, frame_id: FrameId) -> bool:
        """Say whether a frame has a measured depth image."""
        return self._file('depth_2', frame_id, '.png').is_file()

    def depth(self, frame_id: FrameId) -> NDArray[np.float32]:
        """Return the depth image of the left camera, (H, W) float32 metres, 0 = unknown."""
        path = self._file('depth_2', frame_id, '.png')
        depth_m = read_depth_image(path)
        self._check_size(depth_m.shape, self.camera_left, path)
        return depth_m

    def has_stereo_depth(self, frame_id: FrameId) -> bool:
        """Say whether a stereo network left its depth of a frame in depth_stereo/."""
        return self._stereo_file(frame_id).is_file()

    def stereo_depth(self, frame_id: FrameId) -> NDArray[np.float32]:
        """Return the depth that a stereo network wrote, (H, W) float32 metres, 0 = unknown."""
        path = self._stereo_file(frame_id)
        depth_m = read_depth_file(path)
        self._check_size(depth_m.shape, self.camera_left, path)
        return depth_m

    def _stereo_file(self, frame_id: FrameId) -> Path:
        files_of = [self._file('depth_stereo', frame_id, suffix) for suffix in ('.png', '.npy')]
        return next((path for path in files_of if path.is_file()), files_of[0])

    def has_semantic_image(self, frame_id: FrameId) -> bool:
        """Say whether a frame has a class image."""
        return self._file('masks_2', frame_id, '.png').is_file()

    def semantic_image(self, frame_id: FrameId) -> NDArray[np.uint8]:
        """Return the class image of the left camera, (H, W) uint8 train ids, 255 = unknown."""
        path = self._file('masks_2', frame_id, '.png')
        labels = read_semantic_image(path)
        self._check_size(labels.shape, self.camera_left, path)
        return labels

    def has_velodyne(self, frame_id: FrameId) -> bool:
        """Say whether a frame has a lidar scan."""
        return self._file('velodyne', frame_id, '.bin').is_file()

    def velodyne(self, frame_id: FrameId) -> NDArray[np.float32]:
        """Return the scan, (N, 4) float32: x, y, z metres in the velodyne frame, remission."""
        return files.read_velodyne(self._file('velodyne', frame_id, '.bin'))

    def has_point_labels(self, frame_id: FrameId) -> bool:
        """Say whether the points of a frame are labelled."""
        return self._file('labels', frame_id, '.label').is_file()

    def point_labels(self, frame_id: FrameId) -> NDArray[np.uint16]:
        """Return the raw semantic id of each lidar point, (N,) uint16 (see train_from_raw)."""
        scan = self._file('velodyne', frame_id, '.bin')
        num_points = scan.stat().st_size // 16 if scan.is_file() else None
        return files.read_point_labels(self._file('labels', frame_id, '.label'), num_points)

    def has_voxel_labels(self, frame_id: FrameId) -> bool:
        """Say whether a frame has a labelled volume."""
        return self._file('voxels', frame_id, '.label').is_file()

    def voxel_labels(self, frame_id: FrameId) -> NDArray[np.uint8]:
        """Return train ids, (X, Y, Z) uint8; 255 where not scored or marked in .invalid."""
        raw = files.read_voxel_labels(self._file('voxels', frame_id, '.label'), self.grid.shape)
        labels = train_from_raw(raw)
        labels[self.voxel_bits(frame_id, 'invalid')] = IGNORE
        return labels

    def has_voxel_bits(
        self, frame_id: FrameId, kind: Literal['bin', 'invalid', 'occluded']
    ) -> bool:
        """Say whether a frame has a bit volume of this kind."""
        return self._file('voxels', frame_id, f'.{kind}').is_file()

    def voxel_bits(
        self, frame_id: FrameId, kind: Literal['bin', 'invalid', 'occluded']
    ) -> NDArray[np.bool_]:
        """Return a bit volume, (X, Y, Z): occupied by the scan, invalid or occluded."""
        path = self._file('voxels', frame_id, f'.{kind}')
        return files.read_voxel_bits(path, self.grid.shape)

    @cached_property
    def poses_cam(self) -> Array:
        """World_from_cam0 of every line of poses.txt, (N, 4, 4); the world is the first cam0."""
        return self._per_frame(files.read_poses(self.path / 'poses.txt'), 'poses')

    def world_from_velo(self, frame_id: FrameId) -> Array:
        """Return the lidar pose Tr^-1 pose Tr, (4, 4), in the lidar frame of the first pose."""
        world_from_cam = self.poses_cam[int(self._known(frame_id))]
        world_from_velo: Array = (
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

    def _file(self, folder: str, frame_id: FrameId, suffix: str) -> Path:
        return self.path / folder / f'{self._known(frame_id)}{suffix}'

    def _per_frame(self, rows: Array, name: str) -> Array:
        """Return the rows of times or poses; raise DataFileError where frames have none."""
        needed = int(self.frame_ids[-1]) + 1
        if len(rows) < needed:
            raise DataFileError(
                f'{self.path}/{name}.txt: expected a line for each frame up to '
                f'{self.frame_ids[-1]} ({needed} lines), found {len(rows)}'
            )
        return rows

    def _check_size(self, shape: tuple[int, ...], camera: CameraModel, path: Path) -> None:
        if shape[:2] != (camera.height, camera.width):
            raise DataFileError(
                f'{path}: expected {camera.width}x{camera.height} like the first image of the '
                f'sequence, found {shape[1]}x{shape[0]}'
            )


def find_sequences(root: str | Path) -> list[Path]:
    """List the sequence folders of a data set; raise DataFileError where there are none.

    `root` is the folder above `sequences`, `sequences` itself, or one sequence.
    """
    root = Path(root)
    if (root / 'calib.txt').is_file():
        return [root]
    parent = root / 'sequences' if (root / 'sequences').is_dir() else root
    found = sorted(path.parent for path in parent.glob('*/calib.txt'))
    if not found:
        raise DataFileError(
            f'no sequences under {root}: expected {root}/sequences/00/calib.txt and image_2/ '
            'beside it (KITTI odometry layout); "cigocc synthesize" writes such a folder'
        )
    return found


def _check_folder(path: Path) -> None:
    """Raise DataFileError naming everything that a sequence folder must have and has not."""
    if not path.is_dir():
        raise DataFileError(f'{path}: expected a sequence folder (.../sequences/00), found none')
    missing = [name for name in ('calib.txt', 'times.txt') if not (path / name).is_file()]
    if not _images(path / IMAGE_FOLDERS['left']):
        missing.append('image_2/000000.png')
    if missing:
        found = sorted(entry.name for entry in path.iterdir())
        raise DataFileError(
            f'{path}: not a KITTI odometry sequence: {", ".join(missing)} missing, found '
            f'{", ".join(found) or "an empty folder"}'
        )


def _images(folder: Path) -> dict[str, Path]:
    """Return the image files of a folder by frame id, in order."""
    found = (path for path in folder.glob('*') if path.suffix in IMAGE_SUFFIXES)
    return {path.stem: path for path in sorted(found) if path.stem.isdigit()}


def _image_file(folder: Path, frame_id: str) -> Path:
    """Return the image of a frame, whatever its format; the .png where there is none."""
    candidates = [folder / f'{frame_id}{suffix}' for suffix in IMAGE_SUFFIXES]
    return next((path for path in candidates if path.is_file()), candidates[0])
