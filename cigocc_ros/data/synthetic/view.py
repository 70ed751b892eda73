"""What the sensors see of a scene: images, depth, classes and lidar scans, by ray casting."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.arrays import Floats
from cigocc_ros.core.camera import CameraModel
from cigocc_ros.core.labels import EMPTY, IGNORE
from cigocc_ros.core.projection import velo_from_pixel
from cigocc_ros.data.raycast import RayCaster
from cigocc_ros.data.synthetic.light import Light
from cigocc_ros.data.synthetic.mesh import FOLIAGE, GLASS, PAINT, FrozenMesh
from cigocc_ros.data.synthetic.texture import albedo

LIDAR_ELEVATION_DEG = (-24.8, 2.0)
LIDAR_BEAMS, LIDAR_COLUMNS = 64, 1000
LIDAR_RANGE_M = 80.0
LIDAR_NOISE_M = 0.012
_SHADOW_OFFSET_M = 0.02
_LEAF_GLOW = 0.45
"""Share of the sunlight that leaves scatter whichever way they face."""


@dataclass(frozen=True)
class Layer:
    """Some of a scene's triangles (world frame), their unit normals and their ray caster."""

    mesh: FrozenMesh
    normals: NDArray[np.float32]
    caster: RayCaster

    @classmethod
    def of(cls, mesh: FrozenMesh) -> Layer:
        """Build the ray caster and the normals of a mesh."""
        a, b, c = mesh.triangles.transpose(1, 0, 2)
        normals = np.cross(b - a, c - a)
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
        return cls(mesh, normals.astype(np.float32), RayCaster(mesh.triangles))


@dataclass(frozen=True)
class Seen:
    """What N rays met: distance in ray lengths (inf: nothing) and the surface there."""

    distance: Floats
    classes: NDArray[np.uint8]
    surfaces: NDArray[np.uint8]
    colours: NDArray[np.float32]
    normals: NDArray[np.float32]


@dataclass(frozen=True)
class Scene:
    """Everything at one moment, world frame: what stands, what moves, where the lidar is."""

    layers: tuple[Layer, ...]
    world_from_velo: Floats

    def cast(self, origins: Floats, rays: Floats) -> Seen:
        """Return what each ray (N, 3) meets first."""
        seen = Seen(
            np.full(len(rays), np.inf),
            np.full(len(rays), EMPTY, np.uint8),
            np.zeros(len(rays), np.uint8),
            np.zeros((len(rays), 3), np.float32),
            np.zeros((len(rays), 3), np.float32),
        )
        for layer in self.layers:
            hits = layer.caster.cast(origins, rays)
            near = np.flatnonzero(hits.distance < seen.distance)
            triangle = hits.triangle[near]
            seen.distance[near] = hits.distance[near]
            seen.classes[near] = layer.mesh.classes[triangle]
            seen.surfaces[near] = layer.mesh.surfaces[triangle]
            seen.colours[near] = layer.mesh.colours[triangle]
            seen.normals[near] = layer.normals[triangle]
        return seen

    def occluded(self, origins: Floats, rays: Floats) -> NDArray[np.bool_]:
        """Say which rays (N, 3) meet anything."""
        mask = np.zeros(len(rays), bool)
        for layer in self.layers:
            mask |= layer.caster.occluded(origins, rays)
        return mask


@dataclass(frozen=True)
class Picture:
    """What one camera sees: image (H, W, 3) uint8 rgb, depth_m (H, W), classes (H, W) uint8."""

    image: NDArray[np.uint8]
    depth_m: NDArray[np.float32]
    classes: NDArray[np.uint8]


def render(
    scene: Scene, camera: CameraModel, cam_from_velo: Floats, light: Light,
    random: np.random.Generator,
) -> Picture:  # fmt: skip
    """Ray cast one camera; depth and classes belong to the pixel centres.

    Pixels of the sky have depth 0 and class empty, those of the far hills an unknown class.
    """
    cam_from_world = cam_from_velo @ np.linalg.inv(scene.world_from_velo)
    inverse = velo_from_pixel(camera.projection @ cam_from_world)
    u, v = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    rays = np.stack([u, v, np.ones_like(u)], axis=-1).reshape(-1, 3) @ inverse[:, :3].T
    origins = np.broadcast_to(inverse[:, 3], rays.shape)
    seen = scene.cast(origins, rays)
    lengths = np.linalg.norm(rays, axis=1)
    directions = (rays / lengths[:, None]).astype(np.float32)
    colour, hills = light.sky(directions)
    classes = np.where(hills & np.isinf(seen.distance), IGNORE, seen.classes).astype(np.uint8)
    met = np.flatnonzero(np.isfinite(seen.distance))
    points = origins[met] + rays[met] * seen.distance[met, None]
    away = (seen.distance[met] * lengths[met]).astype(np.float32)
    footprint = away / np.float32(camera.projection[0, 0])
    lit = _shaded(scene, seen, met, points, directions[met], footprint, light)
    haze = 1 - np.exp(-np.float32(light.haze_per_m) * away[:, None])
    colour[met] = lit * (1 - haze) + light.horizon_rgb * haze
    shape = (camera.height, camera.width)
    depth = np.where(np.isfinite(seen.distance), seen.distance, 0).reshape(shape)
    image = light.exposed(colour.reshape(*shape, 3), random)
    return Picture(image, depth.astype(np.float32), classes.reshape(shape))


def _shaded(
    scene: Scene, seen: Seen, met: NDArray[np.int64], points: Floats,
    directions: NDArray[np.float32], footprint: NDArray[np.float32], light: Light,
) -> NDArray[np.float32]:  # fmt: skip
    """Return the reflected light (N, 3): sun with cast shadows, sky from above, ground bounce."""
    surfaces, normals = seen.surfaces[met], seen.normals[met]
    cosine = (normals * directions).sum(1, keepdims=True)
    normals = np.where(cosine > 0, -normals, normals)
    facing = np.clip(normals @ light.sun, 0, None)
    leaf = surfaces == FOLIAGE
    facing[leaf] = _LEAF_GLOW + (1 - _LEAF_GLOW) * facing[leaf]
    sunlit = np.flatnonzero(facing > 0)
    start = points[sunlit] + normals[sunlit] * _SHADOW_OFFSET_M
    shadow = scene.occluded(start, np.broadcast_to(light.sun, start.shape))
    facing[sunlit[shadow]] = 0
    up = np.where(leaf[:, None], 0.3, normals[:, 2:])
    oblique = footprint / np.clip(np.abs(cosine[:, 0]), 0.2, 1)
    base = albedo(points, surfaces, seen.colours[met], normals, oblique, light.seed)
    bounce = 0.1 * light.sun_rgb * light.sun[2]
    ambient = light.ambient_rgb * (0.55 + 0.45 * up) + bounce * (0.6 - 0.4 * up)
    result: NDArray[np.float32] = base * (ambient + facing[:, None] * light.sun_rgb)
    shiny = np.flatnonzero((surfaces == GLASS) | (surfaces == PAINT))
    mirrored = directions[shiny] - 2 * cosine[shiny] * seen.normals[met[shiny]]
    fresnel = 0.05 + 0.6 * (1 - np.abs(cosine[shiny])) ** 3
    sky, _ = light.sky(mirrored)
    result[shiny] += fresnel * np.where(mirrored[:, 2:] > 0, sky, 0.15 * light.ambient_rgb)
    return result


def scan(
    scene: Scene, random: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return a lidar scan: points (N, 4) float32 x, y, z, intensity and train ids (N,)."""
    low, high = np.deg2rad(LIDAR_ELEVATION_DEG)
    elevation = np.linspace(low, high, LIDAR_BEAMS)[:, None]
    azimuth = np.linspace(-np.pi, np.pi, LIDAR_COLUMNS, endpoint=False)[None]
    x, y = np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth)
    rays = np.stack(np.broadcast_arrays(x, y, np.sin(elevation)), axis=-1).reshape(-1, 3)
    pose = scene.world_from_velo
    seen = scene.cast(np.broadcast_to(pose[:3, 3], rays.shape), rays @ pose[:3, :3].T)
    kept = np.flatnonzero((seen.distance < LIDAR_RANGE_M) & (seen.surfaces != GLASS))
    distance = seen.distance[kept] + LIDAR_NOISE_M * random.normal(size=len(kept))
    intensity = np.clip(seen.colours[kept].mean(1) * 1.5, 0, 1)
    points = np.column_stack([rays[kept] * distance[:, None], intensity])
    return points.astype(np.float32), seen.classes[kept]
