"""Labelled lidar scans and poses -> the voxel volumes of SemanticKITTI v1.1.

Follows what the data set's own tool (github.com/jbehley/voxelizer) does with its configuration for
the benchmark: the scan of a frame and the 70 later ones are moved into the frame; a point counts
where it lies 2.5 to 70 m from its own sensor; every label counts, also 0 and moving objects, which
leave traces. Occlusion is decided on the straight line from the voxel's centre to the sensor; the
tool shares the answer of one line among the voxels it passes, which moves some borders by a voxel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.arrays import Floats
from cigocc_ros.core.errors import ConfigError, DataFileError
from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID, VoxelGrid
from cigocc_ros.core.workers import process_pool
from cigocc_ros.data.kitti_files import write_voxel_bits, write_voxel_labels
from cigocc_ros.data.kitti_layout import VOXELS_EVERY
from cigocc_ros.data.kitti_sequence import KittiSequence
from cigocc_ros.data.voxel_faces import VoxelOccluders

RANGE_M = (2.5, 70.0)
"""Distance from its own sensor within which a point counts."""
LATER_SCANS = 70
_LABEL_BITS = 16


@dataclass(frozen=True)
class LabelledScan:
    """points (N, 3) float32 in the scan's own frame, labels (N,) raw ids, its pose (4, 4)."""

    points: NDArray[np.float32]
    labels: NDArray[np.uint16]
    velo_from_scan: Floats


@dataclass(frozen=True)
class VoxelVolumes:
    """The four volumes of a frame, (X, Y, Z): labels uint16 raw ids, the others bool.

    scanned: `.bin`, labelled points of the present scan. occluded: occupied, or hidden from the
    present sensor. invalid: not occupied, and hidden from the present and every later sensor.
    """

    labels: NDArray[np.uint16]
    scanned: NDArray[np.bool_]
    occluded: NDArray[np.bool_]
    invalid: NDArray[np.bool_]


def voxelize(scans: Sequence[LabelledScan], grid: VoxelGrid = SEMANTIC_KITTI_GRID) -> VoxelVolumes:
    """Voxelise scans moved into the grid's frame; the first scan is the present one."""
    present, _ = hit_labels(scans[:1], grid)
    labels, occupied = hit_labels(scans, grid)
    sensors = [scan.velo_from_scan[:3, 3] for scan in scans]
    occluded, invalid = _hidden(occupied, sensors, grid)
    return VoxelVolumes(labels, present > 0, occluded, invalid)


def hit_labels(
    scans: Sequence[LabelledScan], grid: VoxelGrid = SEMANTIC_KITTI_GRID
) -> tuple[NDArray[np.uint16], NDArray[np.bool_]]:
    """Return the commonest raw id per voxel and where any scan hit, both (X, Y, Z)."""
    placed = [_placed(scan, grid) for scan in scans]
    flat, point_labels = (np.concatenate(parts) for parts in zip(*placed, strict=True))
    return majority(flat, point_labels, grid)


def majority(
    flat: NDArray[np.int64], labels: NDArray[np.integer], grid: VoxelGrid
) -> tuple[NDArray[np.uint16], NDArray[np.bool_]]:
    """Return the commonest label per voxel, the lowest id in a tie, and where any point was.

    flat (N,) are flat voxel indices, labels (N,) ids below 65536. Returns (X, Y, Z) twice.
    """
    codes, counts = np.unique(flat << _LABEL_BITS | labels, return_counts=True)
    voxel, label = codes >> _LABEL_BITS, codes & ((1 << _LABEL_BITS) - 1)
    order = np.lexsort((-label, counts, voxel))
    winners = np.zeros(grid.num_voxels, np.uint16)
    winners[voxel[order]] = label[order]  # the last of a voxel wins: most points, lowest id
    occupied = np.zeros(grid.num_voxels, bool)
    occupied[voxel] = True
    return winners.reshape(grid.shape), occupied.reshape(grid.shape)


def _placed(scan: LabelledScan, grid: VoxelGrid) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return flat voxel index and label of the points that count."""
    distance = np.linalg.norm(scan.points, axis=1)
    near = (distance >= RANGE_M[0]) & (distance <= RANGE_M[1])
    move = scan.velo_from_scan.astype(np.float32)
    flat, inside = flat_voxels(scan.points[near] @ move[:3, :3].T + move[:3, 3], grid)
    return flat, scan.labels[near][inside].astype(np.int64)


def flat_voxels(
    points: NDArray[np.float32], grid: VoxelGrid
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the flat voxel indices of the points (N, 3) that are inside, and which are, (N,).

    In float32 like the official tool: points on a voxel's border then fall to the same side.
    """
    origin, size = (np.array(triple, np.float32) for triple in (grid.origin_m, grid.voxel_size_m))
    scaled = (points - origin) / size
    inside = np.all((scaled >= 0) & (scaled < grid.shape), axis=1)
    index = scaled[inside].astype(np.int64)
    return np.ravel_multi_index(tuple(index.T), grid.shape).astype(np.int64), inside


def _hidden(
    occupied: NDArray[np.bool_], sensors: list[Floats], grid: VoxelGrid
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return occluded and invalid (X, Y, Z) for sensors (3,), the present one first."""
    occluders = VoxelOccluders(occupied, grid)
    free = np.argwhere(~occupied)
    hidden = free[occluders.hide(grid.center_of(free), sensors[0])]
    occluded = occupied.copy()
    occluded[tuple(hidden.T)] = True
    for sensor in sensors[1:]:  # only what is still hidden can change
        hidden = hidden[occluders.hide(grid.center_of(hidden), sensor)]
    invalid = np.zeros(grid.shape, bool)
    invalid[tuple(hidden.T)] = True
    return occluded, invalid


def read_scans(
    sequence: KittiSequence, frame_id: str, later: int = LATER_SCANS, earlier: int = 0
) -> list[LabelledScan]:
    """Read the scans from `earlier` before a frame to `later` after it, placed in its lidar."""
    velo_from_world = np.linalg.inv(sequence.world_from_velo(frame_id))
    return [
        LabelledScan(
            sequence.velodyne(other)[:, :3],
            sequence.point_labels(other),
            velo_from_world @ sequence.world_from_velo(other),
        )
        for other in _window(sequence, frame_id, later, earlier)
    ]


def write_volumes(folder: Path, frame_id: str, volumes: VoxelVolumes) -> None:
    """Write FFFFFF.bin, .occluded, .invalid and, last, .label."""
    write_voxel_bits(folder / f'{frame_id}.bin', volumes.scanned)
    write_voxel_bits(folder / f'{frame_id}.occluded', volumes.occluded)
    write_voxel_bits(folder / f'{frame_id}.invalid', volumes.invalid)
    write_voxel_labels(folder / f'{frame_id}.label', volumes.labels)


def frames_to_voxelize(
    sequence: KittiSequence, every: int = VOXELS_EVERY, later: int = LATER_SCANS
) -> list[str]:
    """Return the ids divisible by `every`; raise DataFileError naming what their scans lack.

    Raises ConfigError for numbers that cannot be meant.
    """
    if every < 1 or later < 0:
        raise ConfigError(f'every must be 1 or more and scans 0 or more: {every}, {later}')
    chosen = [frame_id for frame_id in sequence.frame_ids if int(frame_id) % every == 0]
    require_scans(sequence, chosen, later)
    return chosen


def require_scans(sequence: KittiSequence, frame_ids: Sequence[str], later: int) -> None:
    """Raise DataFileError naming what the scans of these frames and the later ones lack."""
    needed = sorted({other for frame in frame_ids for other in _window(sequence, frame, later)})
    lacking = [f'velodyne/{name}.bin' for name in needed if not sequence.has_velodyne(name)]
    lacking += [f'labels/{name}.label' for name in needed if not sequence.has_point_labels(name)]
    if not sequence.has_poses:
        lacking.insert(0, 'poses.txt')
    if lacking:
        raise DataFileError(
            f'{sequence.path}: voxelising needs poses.txt and velodyne and labels of every frame; '
            f'{len(lacking)} missing, the first is {lacking[0]}: unpack the SemanticKITTI labels '
            '(not published for sequences 11 to 21) and KITTI velodyne data there'
        )


def write_voxels(
    sequence: KittiSequence,
    frame_ids: Sequence[str],
    folder: Path,
    later: int = LATER_SCANS,
    workers: int = 1,
) -> Iterator[str]:
    """Write the volumes of frames into a folder and yield each id when its files are there."""
    one = partial(_write_frame, sequence, folder, later)
    if workers <= 1:
        yield from map(one, frame_ids)
        return
    with process_pool(workers) as pool:
        yield from pool.map(one, frame_ids)


def _write_frame(sequence: KittiSequence, folder: Path, later: int, frame_id: str) -> str:
    write_volumes(folder, frame_id, voxelize(read_scans(sequence, frame_id, later), sequence.grid))
    return frame_id


def _window(sequence: KittiSequence, frame_id: str, later: int, earlier: int = 0) -> list[str]:
    now = int(frame_id)
    return [name for name in sequence.frame_ids if now - earlier <= int(name) <= now + later]
