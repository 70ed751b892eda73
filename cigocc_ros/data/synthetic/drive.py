"""A drive through a street: the scene of a seed, where the vehicle is, what it has seen."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.arrays import Floats
from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID
from cigocc_ros.data.synthetic.layout import build_street
from cigocc_ros.data.synthetic.light import Light
from cigocc_ros.data.synthetic.mesh import FrozenMesh
from cigocc_ros.data.synthetic.rig import Rig, draw_rig
from cigocc_ros.data.synthetic.street import EGO_SPEED_MPS, Random, Street
from cigocc_ros.data.synthetic.view import Layer, Scene
from cigocc_ros.data.synthetic.visibility import RangeImage
from cigocc_ros.data.synthetic.voxels import Samples, Volumes, build_volumes

GENERATOR_VERSION = 3
STATION_M = 6.0
LAST_STATION_M = 54.0
"""The ground truth has been scanned from every STATION_M up to here ahead of the vehicle."""
SAMPLE_MARGIN_M = 8.0
"""How much farther than the grid the street is sampled: roads bend."""


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


@dataclass(frozen=True)
class Drive:
    """One sequence before it is written; poses (F, 4, 4) are world_from_velo."""

    settings: SequenceSettings
    street: Street
    rig: Rig
    light: Light
    static: Layer
    samples: Samples
    poses: Floats
    _stations: dict[int, RangeImage] = field(default_factory=dict)

    @classmethod
    def drawn(cls, settings: SequenceSettings) -> Drive:
        """Draw everything that the seed decides and that lasts the whole sequence."""
        random = np.random.default_rng([GENERATOR_VERSION, settings.seed])
        street = build_street(random, settings.frames * settings.step_m)
        rig, light = draw_rig(random, settings.width), Light.drawn(random)
        mesh = street.static.frozen()
        sway = _sway(random, settings)
        stations = np.arange(settings.frames) * settings.step_m
        poses = [
            street.on_road(x, street.lane_y + dy, 0.0, turn) @ rig.ground_from_velo
            for x, (dy, turn) in zip(stations, sway, strict=True)
        ]
        last_m = float(stations[-1]) + SEMANTIC_KITTI_GRID.extent_m[0] + SAMPLE_MARGIN_M
        aside_m = SEMANTIC_KITTI_GRID.extent_m[1] / 2 + SAMPLE_MARGIN_M

        def near(points: Floats) -> NDArray[np.bool_]:
            aside = np.abs(points[:, 1] - street.bend.lift(points[:, 0])[:, 1])
            inside: NDArray[np.bool_] = (aside < aside_m) & (points[:, 0] < last_m)
            return inside

        samples = Samples.of(mesh, random, near)
        return cls(settings, street, rig, light, Layer.of(mesh), samples, np.stack(poses))

    def movers(self, number: int) -> FrozenMesh:
        """Return what moves, where it is in a frame, in the world."""
        time_s = number * self.settings.step_m / EGO_SPEED_MPS
        return self.street.movers_at(time_s).frozen()

    def volumes(self, number: int, scene: Scene, moving: Samples) -> Volumes:
        """Return the ground truth of a frame."""
        velo_from_world = np.linalg.inv(scene.world_from_velo).astype(np.float64)
        x = number * self.settings.step_m
        first = int(np.floor(x / STATION_M)) + 1
        present = RangeImage.cast(
            scene.world_from_velo[:3, 3], lambda o, r: scene.cast(o, r).distance
        )
        later = [self._station(first + k) for k in range(int(LAST_STATION_M / STATION_M))]
        parts = [s.within(velo_from_world, SEMANTIC_KITTI_GRID) for s in (self.samples, moving)]
        points, classes = (np.concatenate(both) for both in zip(*parts, strict=True))
        return build_volumes(points, classes, [present, *later], velo_from_world)

    def _station(self, number: int) -> RangeImage:
        if number not in self._stations:
            x = number * STATION_M
            pose = self.street.on_road(x, self.street.lane_y, 0.0, 0.0) @ self.rig.ground_from_velo
            caster = self.static.caster
            self._stations[number] = RangeImage.cast(
                pose[:3, 3], lambda o, r: caster.cast(o, r).distance
            )
        return self._stations[number]


def _sway(random: Random, settings: SequenceSettings) -> Floats:
    """Return offset from the lane (m) and yaw (rad) per frame, (F, 2): smooth, small."""
    count, phase = settings.frames, random.uniform(0, 2 * np.pi, 2)
    size = np.array([random.uniform(0, 0.35), random.uniform(0, 0.03)])
    turn = random.normal() * 0.05
    wave = np.sin(np.arange(count)[:, None] * settings.step_m * 0.12 + phase) * size
    result: Floats = wave + [0.0, turn]
    return result
