"""Ground truth volumes in SemanticKITTI's layout, or arrays of train ids."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.arrays import read_arrays
from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID, VoxelGrid
from cigocc_ros.data.kitti_files import read_target_labels
from cigocc_ros.data.kitti_layout import (
    VOXEL_INVALID,
    VOXEL_LABELS,
    FrameKey,
    require_files,
    sequence_folder,
    sequence_folders,
)

ARRAY_KEY = 'label'


class GroundTruth(Protocol):
    """Target labels of some frames."""

    frames: tuple[FrameKey, ...]
    """What there is, in order."""
    form: str
    """What kind of files, for the report."""

    def require(self, frames: tuple[FrameKey, ...]) -> None:
        """Raise DataFileError unless all of `frames` are there."""

    def labels(self, frame: FrameKey) -> NDArray[np.uint8]:
        """Return train ids (X, Y, Z) uint8, 255 = unknown; raise DataFileError."""


class LabelVolumes:
    """SS/voxels/FFFFFF.label with .invalid: the official ones, or those of `cigocc voxelize`."""

    form = '.label and .invalid volumes'

    def __init__(self, root: Path, grid: VoxelGrid = SEMANTIC_KITTI_GRID) -> None:
        """List the volumes below `root`."""
        self.root, self.grid = root, grid
        self.frames = tuple(
            FrameKey(folder.name, frame_id)
            for folder in sequence_folders(root, VOXEL_LABELS.folder)
            for frame_id in VOXEL_LABELS.files(folder)
        )

    def require(self, frames: tuple[FrameKey, ...]) -> None:
        """Raise DataFileError naming the missing files of each sequence."""
        require_files(self.root, frames, (VOXEL_LABELS, VOXEL_INVALID))

    def labels(self, frame: FrameKey) -> NDArray[np.uint8]:
        """Return train ids; 255 where not scored or marked in .invalid."""
        folder = sequence_folder(self.root, frame.sequence)
        labels, invalid = (
            part.file(folder, frame.frame_id) for part in (VOXEL_LABELS, VOXEL_INVALID)
        )
        return read_target_labels(labels, invalid, self.grid.shape)


class LabelArrays:
    """SS_FFFFFF.npz, each an array `label` of train ids, (X, Y, Z) uint8, 255 = unknown."""

    form = f'.npz arrays {ARRAY_KEY!r} of train ids'

    def __init__(self, root: Path, grid: VoxelGrid = SEMANTIC_KITTI_GRID) -> None:
        """List the arrays in `root`."""
        self.root, self.grid = root, grid
        names = (path.stem.partition('_') for path in root.glob('[!.]*_*.npz'))
        self.frames = tuple(sorted(FrameKey(name, frame_id) for name, _, frame_id in names))

    def require(self, frames: tuple[FrameKey, ...]) -> None:
        """Raise DataFileError naming the first missing array."""
        missing = sorted(set(frames) - set(self.frames))
        if missing:
            raise DataFileError(
                f'{self._path(missing[0])}: missing, and {len(missing) - 1} more of '
                f'{len(frames)}; {self.root} has {len(self.frames)} arrays'
            )

    def labels(self, frame: FrameKey) -> NDArray[np.uint8]:
        """Return the array of a frame."""
        path = self._path(frame)
        try:
            labels: NDArray[np.uint8] = read_arrays(path, (ARRAY_KEY,))[ARRAY_KEY]
        except DataFileError as error:
            raise DataFileError(
                f'{path}: expected an array {ARRAY_KEY!r}, cannot be read: {error}'
            ) from error
        if labels.dtype != np.uint8 or labels.shape != self.grid.shape:
            raise DataFileError(
                f'{path}: expected uint8 {self.grid.shape}, found {labels.dtype} {labels.shape}'
            )
        return labels

    def _path(self, frame: FrameKey) -> Path:
        return self.root / f'{frame.sequence}_{frame.frame_id}.npz'


def open_ground_truth(root: Path) -> GroundTruth:
    """Return the ground truth in a folder, whichever form it has; raise DataFileError."""
    sources: tuple[GroundTruth, ...] = (LabelVolumes(root), LabelArrays(root))
    for source in sources:
        if source.frames:
            return source
    raise DataFileError(
        f'no ground truth in {root}: expected {root}/sequences/08/voxels/000000.label with '
        f'.invalid beside it ({VOXEL_LABELS.archive}, or "cigocc voxelize" where labelled scans '
        f'are), or {root}/08_000000.npz with an array {ARRAY_KEY!r} of train ids'
    )
