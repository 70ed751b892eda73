"""Write synthetic sequences in the KITTI odometry / SemanticKITTI layout."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.labels import EMPTY, raw_from_train
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
from cigocc_ros.data.synthetic.mesh import FrozenMesh, Mesh, moved
from cigocc_ros.data.synthetic.rig import Rig, draw_rig
from cigocc_ros.data.synthetic.street import EGO_SPEED_MPS, Street, build_street
from cigocc_ros.data.synthetic.texture import Light
from cigocc_ros.data.synthetic.view import Scene, render, scan
from cigocc_ros.data.synthetic.voxels import build_volumes

GENERATOR_VERSION = 1
FRAME_PERIOD_S = 0.1
SENSOR_AHEAD_M = (0.0, 4.0, 9.0, 15.0, 22.0, 30.0, 40.0, 52.0)
"""Later positions of the vehicle from which the ground truth has been seen."""
MAX_DEPTH_M = 250.0


@dataclass(frozen=True)
class SequenceSettings:
    """What to generate; everything else follows from the seed."""

    frames: int = 20
    width: int = 1241
    step_m: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise ConfigError for sizes nothing can be made of."""
        if self.frames < 1 or self.width < 64 or not self.step_m > 0:
            raise ConfigError(
                f'synthetic sequences need frames >= 1, width >= 64, step_m > 0; found {self}'
            )


def write_sequence(folder: Path, settings: SequenceSettings) -> Iterator[str]:
    """Write one sequence; yield the id of each frame once it is on disk."""
    random = np.random.default_rng([GENERATOR_VERSION, settings.seed])
    street = build_street(random, settings.frames * settings.step_m)
    rig, light = draw_rig(random, settings.width), Light.drawn(random)
    static = street.static.frozen()
    stations = np.arange(settings.frames) * settings.step_m
    poses = np.stack([world_from_velo(street, rig, x) for x in stations])
    _write_text(folder, rig, poses, settings)
    for i, x in enumerate(stations):
        frame_random = np.random.default_rng([GENERATOR_VERSION, settings.seed, i])
        mesh = _mesh_at(street, static, x / EGO_SPEED_MPS, poses[i])
        sensors = _later_sensors(street, rig, float(x), poses[i])
        name = f'{i:06d}'
        _write_frame(folder, name, Scene.of(mesh, poses[i]), rig, light, sensors, frame_random)
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
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(_write_whole, *zip(*jobs, strict=True))


def _write_whole(folder: Path, settings: SequenceSettings) -> str:
    for _ in write_sequence(folder, settings):
        pass
    return folder.name


def world_from_velo(street: Street, rig: Rig, x: float) -> NDArray[np.float64]:
    """Return the lidar's pose (4, 4) when the vehicle is at x of its lane."""
    yaw, pitch = street.heading(x)
    cy, sy, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    vehicle = np.eye(4)
    about_z = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    about_y = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    vehicle[:3, :3] = about_z @ about_y
    vehicle[:3, 3] = street.bent(np.array([x, street.lane_y, 0.0]))
    pose: NDArray[np.float64] = vehicle @ rig.ground_from_velo
    return pose


def _mesh_at(
    street: Street, static: FrozenMesh, time_s: float, pose: NDArray[np.float64]
) -> FrozenMesh:
    """Return all that exists at a time, bent along the road, in the lidar frame of `pose`."""
    moving = Mesh()
    for mover in street.movers:
        moving.extend(mover.mesh, mover.at(time_s))
    extra = moving.frozen()
    velo_from_world = np.linalg.inv(pose)

    def joined(name: str) -> NDArray[np.generic]:
        return np.concatenate([getattr(static, name), getattr(extra, name)])

    return FrozenMesh(
        moved(street.bent(joined('triangles')), velo_from_world),
        joined('classes'),
        joined('surfaces'),
        joined('colours'),
        moved(street.bent(joined('volume')), velo_from_world),
        joined('volume_classes'),
    )


def _later_sensors(
    street: Street, rig: Rig, x: float, pose: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return present and later lidar positions (S, 3) in the present lidar frame."""
    later = [world_from_velo(street, rig, x + ahead)[:3, 3] for ahead in SENSOR_AHEAD_M]
    return moved(np.stack(later), np.linalg.inv(pose))


def _write_text(
    folder: Path, rig: Rig, poses: NDArray[np.float64], settings: SequenceSettings
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_calib(folder / 'calib.txt', rig.calibration())
    write_times(folder / 'times.txt', np.arange(settings.frames) * FRAME_PERIOD_S)
    first = np.linalg.inv(poses[0])
    velo_from_cam = np.linalg.inv(rig.cam_from_velo)
    cam_poses = np.stack([rig.cam_from_velo @ first @ pose @ velo_from_cam for pose in poses])
    write_poses(folder / 'poses.txt', cam_poses)
    facts = {'generator_version': GENERATOR_VERSION, **vars(settings)}
    (folder / 'scene.yaml').write_text(yaml.safe_dump(facts), encoding='utf-8')


def _write_frame(
    folder: Path, name: str, scene: Scene, rig: Rig, light: Light,
    sensors: NDArray[np.float64], random: np.random.Generator,
) -> None:  # fmt: skip
    left = render(scene, rig.left, rig.cam_from_velo, light, random)
    right = render(scene, rig.right, rig.cam_from_velo, light, random)
    write_image(folder / 'image_2' / f'{name}.png', left.image)
    write_image(folder / 'image_3' / f'{name}.png', right.image)
    depth = np.where(left.depth_m < MAX_DEPTH_M, left.depth_m, 0)
    write_depth_image(folder / 'depth_2' / f'{name}.png', depth)
    write_semantic_image(folder / 'masks_2' / f'{name}.png', left.classes)
    points, classes = scan(scene, random)
    write_velodyne(folder / 'velodyne' / f'{name}.bin', points)
    write_point_labels(folder / 'labels' / f'{name}.label', raw_from_train(classes))
    _write_volumes(folder / 'voxels', name, scene.mesh, points, sensors, random)


def _write_volumes(
    folder: Path, name: str, mesh: FrozenMesh, points: NDArray[np.float32],
    sensors: NDArray[np.float64], random: np.random.Generator,
) -> None:  # fmt: skip
    from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID

    volumes = build_volumes(mesh, sensors, random)
    write_voxel_labels(folder / f'{name}.label', raw_from_train(volumes.labels))
    write_voxel_bits(folder / f'{name}.invalid', volumes.invalid)
    write_voxel_bits(folder / f'{name}.occluded', volumes.occluded)
    index, inside = SEMANTIC_KITTI_GRID.index_of(points[:, :3])
    present = np.full(SEMANTIC_KITTI_GRID.shape, EMPTY, bool)
    present[tuple(index[inside].T)] = True
    write_voxel_bits(folder / f'{name}.bin', present)
