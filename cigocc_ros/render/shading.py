"""The colour of a ray: Lambert sun with cast shadows, ambient light, voxel edges, sky."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.data.raycast import Hits, RayCaster
from cigocc_ros.render.quads import Floats, Quads

SUN = np.array([-0.42, 0.50, 0.76], dtype=np.float32)  # towards the sun, unit length below
SUN /= np.linalg.norm(SUN)
AMBIENT, DIFFUSE = 0.62, 0.50
# light from the sky by the face's direction: tops brighter than sides, and x differs from y
SKY_LIGHT = {'x': 0.80, 'y': 0.90, 'top': 1.0, 'bottom': 0.6}
LINE_DARKNESS, LINE_WIDTH_PX, LINE_FADE_PX = 0.30, 0.7, (2.5, 9.0)
SHADOW_OFFSET_M = 2e-3
BACKGROUND_TOP = np.array([0.84, 0.88, 0.93], dtype=np.float32)
BACKGROUND_BOTTOM = np.array([0.97, 0.97, 0.97], dtype=np.float32)


class Shader:
    """Colours of rays that meet a fixed set of quads."""

    def __init__(self, scene: Quads) -> None:
        """Prepare the ray caster and the lengths and light of every quad."""
        self._scene = scene
        self._caster = RayCaster(scene.triangles())
        self._normals = scene.normals
        self._ambient = AMBIENT * _sky_light(self._normals)
        self._sun = DIFFUSE * np.clip(self._normals @ SUN, 0, None)
        lengths = [np.linalg.norm(edge, axis=1) for edge in (scene.edge_a, scene.edge_b)]
        self._edge_m = np.stack(lengths, axis=1).astype(np.float32)

    def __call__(
        self, origins: NDArray[Any], directions: NDArray[Any], pixel_m: NDArray[Any]
    ) -> Floats:
        """Return (N, 4) colour and coverage, 0..1, of rays (N, 3) with unit directions.

        pixel_m: (2,) float32; a pixel is `pixel_m[0] + pixel_m[1] * distance` wide.
        """
        hits = self._caster.cast(origins, directions)
        hit = hits.hit
        rgba = np.zeros((len(directions), 4), np.float32)
        quad, inside = _quad_coordinates(hits, hit, len(self._scene))
        distance = hits.distance[hit]
        points = origins[hit] + directions[hit] * distance[:, None]
        light = self._ambient[quad] * _bilinear(self._scene.corner_light[quad], inside)
        light += self._sun[quad] * ~self._shadowed(points, quad)
        light *= self._lines(quad, inside, pixel_m[0] + pixel_m[1] * distance)
        rgba[hit, :3] = np.clip(self._scene.rgb[quad] * light[:, None], 0, 1)
        rgba[hit, 3] = 1
        return rgba

    def _shadowed(self, points: NDArray[Any], quad: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Say which points (N, 3) on quads lie in the shadow of another quad."""
        shadowed = np.zeros(len(points), dtype=bool)
        facing = self._sun[quad] > 0
        starts = points[facing] + SHADOW_OFFSET_M * self._normals[quad[facing]]
        shadowed[facing] = self._caster.occluded(starts, np.broadcast_to(SUN, starts.shape))
        return shadowed

    def _lines(self, quad: NDArray[np.int64], inside: Floats, pixel_m: NDArray[Any]) -> Floats:
        """Return the light left by the lines: every `line_pitch_m`, faded where they crowd."""
        pitch = self._scene.line_pitch_m[quad]
        with np.errstate(invalid='ignore'):
            along = inside * self._edge_m[quad] / pitch[:, None]
            to_line_m = np.abs(along - np.rint(along)).min(axis=1) * pitch
        half_width = np.maximum(LINE_WIDTH_PX * pixel_m, 1e-6)
        near, far = LINE_FADE_PX
        strength = np.clip((pitch / pixel_m - near) / (far - near), 0, 1)
        ink = np.clip(1.5 - to_line_m / half_width, 0, 1) * strength * LINE_DARKNESS
        return np.where(np.isfinite(pitch), 1 - ink, 1).astype(np.float32)


def _sky_light(normals: Floats) -> Floats:
    weight = normals**2
    vertical = np.where(normals[:, 2] > 0, SKY_LIGHT['top'], SKY_LIGHT['bottom'])
    light = weight[:, 0] * SKY_LIGHT['x'] + weight[:, 1] * SKY_LIGHT['y']
    return np.asarray(light + weight[:, 2] * vertical, np.float32)


def _quad_coordinates(
    hits: Hits, hit: NDArray[np.bool_], count: int
) -> tuple[NDArray[np.int64], Floats]:
    """Return the quad (N,) and the place (a, b) in it (N, 2) of the rays that hit."""
    triangle, u, v = hits.triangle[hit], hits.u[hit], hits.v[hit]
    second = triangle >= count
    a, b = np.where(second, u, u + v), np.where(second, u + v, v)
    return triangle - count * second, np.stack([a, b], axis=1).astype(np.float32)


def _bilinear(corner: Floats, inside: Floats) -> Floats:
    a, b = inside[:, 0], inside[:, 1]
    low = corner[:, 0, 0] * (1 - a) + corner[:, 1, 0] * a
    high = corner[:, 0, 1] * (1 - a) + corner[:, 1, 1] * a
    blended: Floats = (low * (1 - b) + high * b).astype(np.float32, copy=False)
    return blended
