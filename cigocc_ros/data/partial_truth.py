"""Ground truth from a short log: what a few labelled scans and official masks are sure about.

A volume needs about 70 later scans before space that none of them hit can be called free. With
fewer, `voxelize` calls voxels free that a longer drive would fill. Here a voxel is occupied where
a scan hit it, free only where the official masks of some frame of the same sequence, moved along
the poses, saw it free and no scan hit it, and unknown otherwise.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.arrays import COMPACT, read_arrays, write_arrays
from cigocc_ros.core.errors import CalibrationError, DataFileError
from cigocc_ros.core.grid import VoxelGrid
from cigocc_ros.core.labels import EMPTY, IGNORE, train_from_raw
from cigocc_ros.core.projection import check_transform
from cigocc_ros.core.workers import process_pool
from cigocc_ros.data.kitti_sequence import KittiSequence
from cigocc_ros.data.voxelizer import LATER_SCANS, hit_labels, read_scans, require_scans

LABEL_KEY = 'label'
POSE_KEY = 'velo_from_grid'
"""Of a turned volume, (4, 4) float64: where the grid lies in the lidar's frame."""
TURNED_FOLDER = 'turned'
TURN_RAD, TILT_RAD = 0.26, 0.02
"""Largest turn about z (15 degrees), and about x and y (1 degree)."""
SHIFT_M = (6.0, 4.0, 0.3)
"""Largest shift along x, y and z."""


def partial_labels(
    sequence: KittiSequence,
    frame_id: str,
    later: int = LATER_SCANS,
    earlier: int = 0,
    velo_from_grid: NDArray[np.float64] | None = None,
) -> NDArray[np.uint8]:
    """Return train ids (X, Y, Z) uint8, 255 = unknown.

    The scans from `earlier` before the frame to `later` after it count. `velo_from_grid` (4, 4)
    puts the grid elsewhere than into the lidar's frame. Raises DataFileError where the sequence
    has no frame with both .occluded and .invalid.
    """
    grid = sequence.grid
    placed = np.eye(4) if velo_from_grid is None else velo_from_grid
    labels = np.full(grid.shape, IGNORE, dtype=np.uint8)
    labels[_seen_free(sequence, frame_id, placed)] = EMPTY
    scans = [
        replace(scan, velo_from_scan=np.linalg.inv(placed) @ scan.velo_from_scan)
        for scan in read_scans(sequence, frame_id, later, earlier)
    ]
    raw, hit = hit_labels(scans, grid)
    labels[hit] = train_from_raw(raw[hit])
    labels[hit & (raw == 0)] = IGNORE  # something is there, nobody said what
    return labels


def masked_frames(sequence: KittiSequence) -> list[str]:
    """Return the frames that have official masks; raise DataFileError if there are none."""
    found = [
        frame_id
        for frame_id in sequence.frame_ids
        if sequence.has_voxel_bits(frame_id, 'occluded')
        and sequence.has_voxel_bits(frame_id, 'invalid')
    ]
    if not found:
        raise DataFileError(
            f'{sequence.path}: no voxels/FFFFFF.occluded with .invalid, which say what was seen '
            'free: unpack data_odometry_voxels.zip there, or build whole volumes without --partial'
        )
    return found


def write_partial_truth(
    sequence: KittiSequence,
    frame_ids: Sequence[str],
    folder: Path,
    later: int = LATER_SCANS,
    earlier: int = 0,
    workers: int = 1,
    turns: int = 0,
) -> Iterator[str]:
    """Write SS_FFFFFF.npz with an array `label` per frame; yield each id when it is there.

    `turns` more volumes of each frame, with the grid turned and moved, go to TURNED_FOLDER.
    """
    require_scans(sequence, frame_ids, later)
    one = partial(_write_frame, sequence, folder, later, earlier, turns)
    if workers <= 1:
        yield from map(one, frame_ids)
        return
    with process_pool(workers) as pool:
        yield from pool.map(one, frame_ids)


def _write_frame(
    sequence: KittiSequence, folder: Path, later: int, earlier: int, turns: int, frame_id: str
) -> str:
    labels = partial_labels(sequence, frame_id, later, earlier)
    path = folder / f'{sequence.name}_{frame_id}.npz'
    write_arrays(path, {LABEL_KEY: labels}, level=COMPACT)
    for turn in range(turns):
        pose = random_pose(f'{sequence.name}_{frame_id}_{turn}')
        labels = partial_labels(sequence, frame_id, later, earlier, pose)
        path = turned_file(folder, sequence.name, frame_id, turn)
        write_arrays(path, {LABEL_KEY: labels, POSE_KEY: pose}, level=COMPACT)
    return frame_id


def turned_file(folder: Path, sequence: str, frame_id: str, turn: int) -> Path:
    """Return where the volume of a frame whose grid was turned lies."""
    return folder / TURNED_FOLDER / f'{sequence}_{frame_id}_{turn}.npz'


def turned_files(folder: Path, sequence: str, frame_id: str) -> list[Path]:
    """Return the turned volumes that there are of a frame."""
    return sorted((folder / TURNED_FOLDER).glob(f'{sequence}_{frame_id}_*.npz'))


def read_turned(path: Path, grid: VoxelGrid) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Return labels (X, Y, Z), 255 = unknown, and velo_from_grid (4, 4); raise DataFileError."""
    arrays = read_arrays(path, (LABEL_KEY, POSE_KEY))
    labels, pose = arrays[LABEL_KEY], arrays[POSE_KEY]
    if labels.dtype != np.uint8 or labels.shape != grid.shape:
        raise DataFileError(
            f'{path}: expected uint8 labels {grid.shape}, found {labels.dtype} {labels.shape}'
        )
    try:
        return labels, check_transform(pose, POSE_KEY)
    except CalibrationError as error:
        raise DataFileError(f'{path}: {error}') from error


def random_pose(name: str) -> NDArray[np.float64]:
    """Return velo_from_grid (4, 4) of a grid that was turned and moved; the same for one name.

    The layout of a street cannot be learnt by heart from a grid that lies elsewhere each time.
    """
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    tilt = rng.uniform(-TILT_RAD, TILT_RAD, 2)
    roll, pitch, yaw = *tilt, rng.uniform(-TURN_RAD, TURN_RAD)
    pose = np.eye(4)
    pose[:3, :3] = _turn(2, yaw) @ _turn(1, pitch) @ _turn(0, roll)
    pose[:3, 3] = rng.uniform(-1, 1, 3) * SHIFT_M
    return pose


def _turn(axis: int, angle: float) -> NDArray[np.float64]:
    """Return the rotation about an axis, x = 0, by an angle in radians."""
    matrix = np.eye(3)
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrix[first, first] = matrix[second, second] = np.cos(angle)
    matrix[second, first], matrix[first, second] = np.sin(angle), -np.sin(angle)
    return matrix


def _seen_free(
    sequence: KittiSequence, frame_id: str, velo_from_grid: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Return where the official masks of any frame say free, moved into the grid, (X, Y, Z)."""
    grid = sequence.grid
    free = np.zeros(grid.shape, dtype=bool)
    velo_from_world = np.linalg.inv(sequence.world_from_velo(frame_id))
    for other in masked_frames(sequence):
        there = ~sequence.voxel_bits(other, 'occluded') & ~sequence.voxel_bits(other, 'invalid')
        velo_from_other = velo_from_world @ sequence.world_from_velo(other)
        other_from_velo = np.linalg.inv(velo_from_other).astype(np.float64)
        free |= _moved(there, other_from_velo @ velo_from_grid, grid)
    return free


def _moved(
    there: NDArray[np.bool_], there_from_here: NDArray[np.float64], grid: VoxelGrid
) -> NDArray[np.bool_]:
    """Look up each voxel's centre in the volume of another place; False outside it."""
    centers = grid.centers_m().reshape(-1, 3)
    points = centers @ there_from_here[:3, :3].T + there_from_here[:3, 3]
    index, inside = grid.index_of(points)
    values = np.zeros(len(points), dtype=bool)
    values[inside] = there[tuple(index[inside].T)]
    return values.reshape(grid.shape)
