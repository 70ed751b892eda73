"""Ground truth from a short log: what a few labelled scans and official masks are sure about.

A volume needs about 70 later scans before space that none of them hit can be called free. With
fewer, `voxelize` calls voxels free that a longer drive would fill. Here a voxel is occupied where
a scan hit it, free only where the official masks of some frame of the same sequence, moved along
the poses, saw it free and no scan hit it, and unknown otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.files import replacing
from cigocc_ros.core.grid import VoxelGrid
from cigocc_ros.core.labels import EMPTY, IGNORE, train_from_raw
from cigocc_ros.core.workers import process_pool
from cigocc_ros.data.kitti_sequence import KittiSequence
from cigocc_ros.data.voxelizer import LATER_SCANS, hit_labels, read_scans, require_scans

LABEL_KEY = 'label'


def partial_labels(
    sequence: KittiSequence, frame_id: str, later: int = LATER_SCANS, earlier: int = 0
) -> NDArray[np.uint8]:
    """Return train ids (X, Y, Z) uint8, 255 = unknown.

    The scans from `earlier` before the frame to `later` after it count. Raises DataFileError where
    the sequence has no frame with both .occluded and .invalid.
    """
    grid = sequence.grid
    labels = np.full(grid.shape, IGNORE, dtype=np.uint8)
    labels[_seen_free(sequence, frame_id)] = EMPTY
    raw, hit = hit_labels(read_scans(sequence, frame_id, later, earlier), grid)
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
) -> Iterator[str]:
    """Write SS_FFFFFF.npz with an array `label` per frame; yield each id when it is there."""
    require_scans(sequence, frame_ids, later)
    one = partial(_write_frame, sequence, folder, later, earlier)
    if workers <= 1:
        yield from map(one, frame_ids)
        return
    with process_pool(workers) as pool:
        yield from pool.map(one, frame_ids)


def _write_frame(
    sequence: KittiSequence, folder: Path, later: int, earlier: int, frame_id: str
) -> str:
    labels = partial_labels(sequence, frame_id, later, earlier)
    path = folder / f'{sequence.name}_{frame_id}.npz'
    with replacing(path) as temporary, temporary.open('wb') as file:
        np.savez_compressed(file, **{LABEL_KEY: labels})
    return frame_id


def _seen_free(sequence: KittiSequence, frame_id: str) -> NDArray[np.bool_]:
    """Return where the official masks of any frame say free, moved into the frame, (X, Y, Z)."""
    grid = sequence.grid
    free = np.zeros(grid.shape, dtype=bool)
    velo_from_world = np.linalg.inv(sequence.world_from_velo(frame_id))
    for other in masked_frames(sequence):
        there = ~sequence.voxel_bits(other, 'occluded') & ~sequence.voxel_bits(other, 'invalid')
        other_from_velo = np.linalg.inv(velo_from_world @ sequence.world_from_velo(other))
        free |= _moved(there, other_from_velo, grid)
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
