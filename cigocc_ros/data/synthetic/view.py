"""What the sensors see of a scene: images, depth, classes and lidar scans, by ray casting."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.camera import CameraModel
from cigocc_ros.core.labels import IGNORE
from cigocc_ros.core.projection import velo_from_pixel
from cigocc_ros.data.raycast import RayCaster
from cigocc_ros.data.synthetic.mesh import FrozenMesh
from cigocc_ros.data.synthetic.texture import Light, albedo

LIDAR_ELEVATION_DEG = (-24.8, 2.0)
LIDAR_BEAMS, LIDAR_COLUMNS = 64, 1000
LIDAR_RANGE_M = 80.0
_SHADOW_OFFSET_M = 0.02


@dataclass(frozen=True)
class Scene:
    """Everything that exists at one moment, in the lidar frame of that moment."""

    mesh: FrozenMesh
    caster: RayCaster
    normals: NDArray[np.float32]
    world_from_velo: NDArray[np.float64]

    @classmethod
    def of(cls, mesh: FrozenMesh, world_from_velo: NDArray[np.float64]) -> Scene:
        """Build the ray caster and unit normals of a mesh given in the lidar frame."""
        a, b, c = mesh.triangles.transpose(1, 0, 2)
        normals = np.cross(b - a, c - a)
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
        return cls(mesh, RayCaster(mesh.triangles), normals.astype(np.float32), world_from_velo)


@dataclass(frozen=True)
class View:
    """One camera's picture: image (H, W, 3) uint8 rgb, depth_m (H, W), classes (H, W) uint8."""

    image: NDArray[np.uint8]
    depth_m: NDArray[np.float32]
    classes: NDArray[np.uint8]


def render(
    scene: Scene, camera: CameraModel, cam_from_velo: NDArray[np.float64], light: Light,
    random: np.random.Generator,
) -> View:  # fmt: skip
    """Ray cast one camera; depth and classes belong to the pixel centres."""
    inverse = velo_from_pixel(camera.projection @ cam_from_velo)
    u, v = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    rays = np.stack([u, v, np.ones_like(u)], axis=-1).reshape(-1, 3) @ inverse[:, :3].T
    origin = np.broadcast_to(inverse[:, 3], rays.shape)
    hits = scene.caster.cast(origin, rays)
    seen = np.flatnonzero(hits.hit)
    directions = (rays / np.linalg.norm(rays, axis=1, keepdims=True)).astype(np.float32)
    world = scene.world_from_velo
    colour = np.empty((len(rays), 3), np.float32)
    missed = ~hits.hit
    colour[missed] = light.sky(directions[missed] @ world[:3, :3].T.astype(np.float32))
    points = origin[seen] + rays[seen] * hits.distance[seen, None]
    triangle = hits.triangle[seen]
    lit = _shaded(scene, points, directions[seen], triangle, light)
    distance = np.linalg.norm(points, axis=1, keepdims=True)
    haze = 1 - np.exp(-light.haze_per_m * distance)
    colour[seen] = lit * (1 - haze) + light.horizon_rgb * haze
    shape = (camera.height, camera.width)
    depth = np.where(hits.hit, hits.distance, 0).reshape(shape)
    classes = np.full(len(rays), IGNORE, np.uint8)
    classes[seen] = scene.mesh.classes[triangle]
    image = _exposed(colour.reshape(*shape, 3), light, random)
    return View(image, depth.astype(np.float32), classes.reshape(shape))


def _shaded(
    scene: Scene, points: NDArray[np.float64], directions: NDArray[np.float32],
    triangle: NDArray[np.int64], light: Light,
) -> NDArray[np.float32]:  # fmt: skip
    """Return the reflected light (N, 3): sun with cast shadows, sky from above, ground bounce."""
    normals = scene.normals[triangle]
    normals = np.where((normals * directions).sum(1, keepdims=True) > 0, -normals, normals)
    rotation = scene.world_from_velo[:3, :3].astype(np.float32)
    sun = light.sun @ rotation
    facing = np.clip(normals @ sun, 0, None)
    start = points + normals * _SHADOW_OFFSET_M
    shadow = scene.caster.occluded(start, np.broadcast_to(sun, points.shape))
    facing = np.where(shadow, 0, facing)
    up = (normals @ rotation.T)[:, 2:]
    world_points = points @ rotation.T.astype(np.float64) + scene.world_from_velo[:3, 3]
    surfaces, colours = scene.mesh.surfaces[triangle], scene.mesh.colours[triangle]
    base = albedo(world_points, surfaces, colours, normals @ rotation.T, light.seed)
    ambient = light.sky_rgb * (0.35 + 0.35 * up) + 0.08 * light.sun_rgb
    result: NDArray[np.float32] = (base * (ambient + facing[:, None] * light.sun_rgb)).astype(
        np.float32
    )
    return result


def _exposed(
    radiance: NDArray[np.float32], light: Light, random: np.random.Generator
) -> NDArray[np.uint8]:
    """Turn radiance into an 8 bit image: optics, exposure, white balance, noise, gamma."""
    import cv2

    blurred = cv2.GaussianBlur(radiance, (0, 0), light.blur_px)
    exposed = np.clip(blurred * light.exposure * light.gain_rgb, 0, None)
    toned = 1 - np.exp(-1.6 * exposed)
    noisy = toned + light.noise * random.normal(size=toned.shape)
    image: NDArray[np.uint8] = (255 * np.clip(noisy, 0, 1) ** (1 / 1.8) + 0.5).astype(np.uint8)
    return image


def scan(
    scene: Scene, random: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return a lidar scan: points (N, 4) float32 x, y, z, intensity and train ids (N,)."""
    low, high = np.deg2rad(LIDAR_ELEVATION_DEG)
    elevation = np.linspace(low, high, LIDAR_BEAMS)[:, None]
    azimuth = np.linspace(-np.pi, np.pi, LIDAR_COLUMNS, endpoint=False)[None]
    x, y = np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth)
    rays = np.stack(np.broadcast_arrays(x, y, np.sin(elevation)), axis=-1).reshape(-1, 3)
    hits = scene.caster.cast(np.zeros_like(rays), rays)
    kept = hits.hit & (hits.distance < LIDAR_RANGE_M)
    distance = hits.distance[kept] + 0.01 * random.normal(size=kept.sum())
    triangle = hits.triangle[kept]
    intensity = scene.mesh.colours[triangle].mean(1)
    points = np.column_stack([rays[kept] * distance[:, None], intensity])
    return points.astype(np.float32), scene.mesh.classes[triangle]
