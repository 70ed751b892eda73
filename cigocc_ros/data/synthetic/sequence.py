"""Write synthetic sequences in the KITTI odometry / SemanticKITTI layout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import yaml

from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID
from cigocc_ros.core.labels import raw_from_train
from cigocc_ros.core.workers import process_pool
from cigocc_ros.data.image_files import write_depth_image, write_image, write_semantic_image
from cigocc_ros.data.kitti_files import (
    write_calib,
    write_point_labels,
    write_poses,
    write_times,
    write_velodyne,
    write_voxel_bits,
    write_voxel_labels,
)
from cigocc_ros.data.synthetic.drive import GENERATOR_VERSION, Drive, SequenceSettings
from cigocc_ros.data.synthetic.view import Layer, Scene, render, scan
from cigocc_ros.data.synthetic.voxels import Samples

FRAME_PERIOD_S = 0.1
MAX_DEPTH_M = 250.0


def write_sequence(folder: Path, settings: SequenceSettings) -> Iterator[str]:
    """Write one sequence; yield the id of each frame once it is on disk.

    Raise DataFileError where the folder holds something already: frames of two streets would mix.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise DataFileError(
            f'{folder} is not empty: choose another output folder, or delete this one first'
        )
    drive = Drive.drawn(settings)
    _write_text(folder, drive)
    for number in range(settings.frames):
        random = np.random.default_rng([GENERATOR_VERSION, settings.seed, number])
        name = f'{number:06d}'
        _write_frame(folder, name, drive, number, random)
        yield name


def write_sequences(
    root: Path, names_seeds: dict[str, int], settings: SequenceSettings, workers: int = 1
) -> Iterator[str]:
    """Write root/sequences/NAME for each name; yield a name per finished sequence.

    The content depends on the seeds alone, not on the number of worker processes.
    """
    jobs = [
        (root / 'sequences' / name, SequenceSettings(**{**vars(settings), 'seed': seed}))
        for name, seed in names_seeds.items()
    ]
    if workers <= 1:
        for folder, job in jobs:
            yield _write_whole(folder, job)
        return
    with process_pool(workers) as pool:
        yield from pool.map(_write_whole, *zip(*jobs, strict=True))


def _write_whole(folder: Path, settings: SequenceSettings) -> str:
    for _ in write_sequence(folder, settings):
        pass
    return folder.name


def _write_text(folder: Path, drive: Drive) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_calib(folder / 'calib.txt', drive.rig.calibration())
    write_times(folder / 'times.txt', np.arange(drive.settings.frames) * FRAME_PERIOD_S)
    first, cam_from_velo = np.linalg.inv(drive.poses[0]), drive.rig.cam_from_velo
    velo_from_cam = np.linalg.inv(cam_from_velo)
    cam_poses = [cam_from_velo @ first @ pose @ velo_from_cam for pose in drive.poses]
    write_poses(folder / 'poses.txt', np.stack(cam_poses))
    facts = {'generator_version': GENERATOR_VERSION, **vars(drive.settings)}
    (folder / 'scene.yaml').write_text(yaml.safe_dump(facts), encoding='utf-8')


def _write_frame(
    folder: Path, name: str, drive: Drive, number: int, random: np.random.Generator
) -> None:
    movers = drive.movers(number)
    scene = Scene((drive.static, Layer.of(movers)), drive.poses[number])
    rig = drive.rig
    left = render(scene, rig.left, rig.cam_from_velo, drive.light, random)
    right = render(scene, rig.right, rig.cam_from_velo, drive.light, random)
    write_image(folder / 'image_2' / f'{name}.png', left.image)
    write_image(folder / 'image_3' / f'{name}.png', right.image)
    depth = np.where(left.depth_m < MAX_DEPTH_M, left.depth_m, 0)
    write_depth_image(folder / 'depth_2' / f'{name}.png', depth)
    write_semantic_image(folder / 'masks_2' / f'{name}.png', left.classes)
    points, classes = scan(scene, random)
    write_velodyne(folder / 'velodyne' / f'{name}.bin', points)
    write_point_labels(folder / 'labels' / f'{name}.label', raw_from_train(classes))
    volumes = drive.volumes(number, scene, Samples.of(movers, random))
    voxels = folder / 'voxels'
    write_voxel_labels(voxels / f'{name}.label', raw_from_train(volumes.labels))
    write_voxel_bits(voxels / f'{name}.invalid', volumes.invalid)
    write_voxel_bits(voxels / f'{name}.occluded', volumes.occluded)
    index, inside = SEMANTIC_KITTI_GRID.index_of(points[:, :3])
    present = np.zeros(SEMANTIC_KITTI_GRID.shape, bool)
    present[tuple(index[inside].T)] = True
    write_voxel_bits(voxels / f'{name}.bin', present)
