"""Triangles with a class, a surface and a colour, and the primitives streets are made of.

World frame: x along the street, y left, z up, metres; the road surface lies at z = 0.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

Triangles = NDArray[np.float64]
PLAIN, GROUND, WALL, FOLIAGE, PAINT, BARK, ASPHALT, GRASS, PAVING, BRICK, GLASS, ROOF = range(12)
"""Surface kinds; `texture.py` says how each is coloured."""

_BOX_FACES = np.array(
    [[0, 2, 3, 1], [4, 5, 7, 6], [0, 1, 5, 4], [2, 6, 7, 3], [0, 4, 6, 2], [1, 3, 7, 5]]
)


@dataclass
class Mesh:
    """A growing set of triangles (T, 3, 3) with class, surface and colour per triangle.

    `volume` holds points inside porous things (crowns, hedges) that lidar would also hit.
    """

    triangles: list[Triangles] = field(default_factory=list)
    classes: list[NDArray[np.uint8]] = field(default_factory=list)
    surfaces: list[NDArray[np.uint8]] = field(default_factory=list)
    colours: list[NDArray[np.float32]] = field(default_factory=list)
    volume: list[NDArray[np.float64]] = field(default_factory=list)
    volume_classes: list[NDArray[np.uint8]] = field(default_factory=list)

    def add(self, triangles: Triangles, class_id: int, surface: int, colour: ArrayLike) -> None:
        """Append triangles (T, 3, 3) of one class, surface and colour (3,) in 0..1."""
        count = len(triangles)
        self.triangles.append(triangles)
        self.classes.append(np.full(count, class_id, np.uint8))
        self.surfaces.append(np.full(count, surface, np.uint8))
        self.colours.append(np.tile(np.asarray(colour, np.float32), (count, 1)))

    def add_volume(self, points: NDArray[np.float64], class_id: int) -> None:
        """Append points (N, 3) inside something porous."""
        self.volume.append(points)
        self.volume_classes.append(np.full(len(points), class_id, np.uint8))

    def extend(self, other: Mesh, transform: NDArray[np.float64] | None = None) -> None:
        """Append another mesh, moved by a (4, 4) transform."""
        move = np.eye(4) if transform is None else transform
        whole = other.frozen()
        self.triangles.append(moved(whole.triangles, move))
        self.classes.append(whole.classes)
        self.surfaces.append(whole.surfaces)
        self.colours.append(whole.colours)
        self.volume.append(moved(whole.volume, move))
        self.volume_classes.append(whole.volume_classes)

    def frozen(self) -> FrozenMesh:
        """Return the concatenated arrays."""
        return FrozenMesh(
            np.concatenate([np.zeros((0, 3, 3)), *self.triangles]),
            np.concatenate([np.zeros(0, np.uint8), *self.classes]),
            np.concatenate([np.zeros(0, np.uint8), *self.surfaces]),
            np.concatenate([np.zeros((0, 3), np.float32), *self.colours]),
            np.concatenate([np.zeros((0, 3)), *self.volume]),
            np.concatenate([np.zeros(0, np.uint8), *self.volume_classes]),
        )


@dataclass(frozen=True)
class FrozenMesh:
    """Arrays of a mesh: triangles (T, 3, 3), classes, surfaces (T,), colours (T, 3), volume."""

    triangles: Triangles
    classes: NDArray[np.uint8]
    surfaces: NDArray[np.uint8]
    colours: NDArray[np.float32]
    volume: NDArray[np.float64]
    volume_classes: NDArray[np.uint8]


def moved(points: NDArray[np.float64], transform: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return points (..., 3) moved by a (4, 4) transform."""
    result: NDArray[np.float64] = points @ transform[:3, :3].T + transform[:3, 3]
    return result


def pose(x: float, y: float, z: float = 0.0, yaw: float = 0.0) -> NDArray[np.float64]:
    """Return the (4, 4) transform of an object standing at (x, y, z), turned by yaw."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.array([[cos, -sin, 0, x], [sin, cos, 0, y], [0, 0, 1, z], [0, 0, 0, 1.0]])


def quads(corners: NDArray[np.float64]) -> Triangles:
    """Split quads (Q, 4, 3) into triangles (2Q, 3, 3)."""
    return np.concatenate([corners[:, [0, 1, 2]], corners[:, [0, 2, 3]]])


def box(low: ArrayLike, high: ArrayLike) -> Triangles:
    """Return an axis-aligned box."""
    low, high = np.asarray(low, float), np.asarray(high, float)
    bits = np.array([[i & 1, i >> 1 & 1, i >> 2] for i in range(8)])
    corners = low + bits * (high - low)
    return quads(corners[_BOX_FACES])


def extruded(profile: ArrayLike, width_low: float, width_high: float) -> Triangles:
    """Extrude a side profile (N, 2) of (x, z) along y; wide at the bottom, narrower at the top.

    The profile is convex and counter-clockwise; half widths are interpolated over its height.
    """
    outline = np.asarray(profile, float)
    z = outline[:, 1]
    share = (z - z.min()) / max(float(np.ptp(z)), 1e-9)
    half = 0.5 * (width_low + (width_high - width_low) * share)
    left = np.column_stack([outline[:, 0], half, z])
    right = np.column_stack([outline[:, 0], -half, z])
    ring = np.stack([left, right, np.roll(right, -1, 0), np.roll(left, -1, 0)], axis=1)
    caps = [_fan(left), _fan(right)]
    return np.concatenate([quads(ring), *caps])


def cylinder(radius: float, low: float, high: float, top: float | None = None) -> Triangles:
    """Return a vertical 8-sided cylinder or, with another `top` radius, a cone."""
    angle = np.arange(8) * np.pi / 4
    circle = np.column_stack([np.cos(angle), np.sin(angle)])
    upper_radius = radius if top is None else top
    lower = np.column_stack([circle * radius, np.full(8, low)])
    upper = np.column_stack([circle * upper_radius, np.full(8, high)])
    sides = np.stack([lower, np.roll(lower, -1, 0), np.roll(upper, -1, 0), upper], axis=1)
    return np.concatenate([quads(sides), _fan(upper)])


def blob(radii: ArrayLike, rough: float, random: np.random.Generator, level: int = 2) -> Triangles:
    """Return an ellipsoid around the origin whose surface is displaced by `rough` (share)."""
    vertices, inverse = _icosphere_vertices(level)
    displaced = vertices * (1 + rough * random.normal(size=(len(vertices), 1)))
    ball: Triangles = displaced[inverse].reshape(-1, 3, 3) * np.asarray(radii, float)
    return ball


def ball_points(count: int, radii: ArrayLike, random: np.random.Generator) -> NDArray[np.float64]:
    """Return points (count, 3) spread evenly in an ellipsoid around the origin."""
    direction = random.normal(size=(count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    share = np.cbrt(random.random((count, 1)))
    points: NDArray[np.float64] = direction * share * np.asarray(radii, float)
    return points


def _fan(outline: NDArray[np.float64]) -> Triangles:
    corners = len(outline)
    index = [[0, i, i + 1] for i in range(1, corners - 1)]
    fan: Triangles = outline[np.array(index)]
    return fan


@cache
def _icosphere_vertices(level: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    corners = _icosphere(level).reshape(-1, 3).round(9)
    vertices, inverse = np.unique(corners, axis=0, return_inverse=True)
    return vertices, inverse.reshape(-1)


def _icosphere(level: int) -> Triangles:
    golden = (1 + 5**0.5) / 2
    v = np.array([[a, b * golden, 0] for a in (-1, 1) for b in (-1, 1)])
    vertices = np.concatenate([v, np.roll(v, 1, 1), np.roll(v, 2, 1)])
    vertices /= np.linalg.norm(vertices[0])
    edge = 1.0514622242382672
    near = np.abs(np.linalg.norm(vertices[:, None] - vertices, axis=-1) - edge) < 1e-6
    faces = [
        (i, j, k)
        for i in range(12)
        for j in range(i + 1, 12)
        for k in range(j + 1, 12)
        if near[i, j] and near[j, k] and near[i, k]
    ]
    triangles: NDArray[np.float64] = vertices[np.array(faces)]
    for _ in range(level):
        middle = 0.5 * (triangles + np.roll(triangles, -1, axis=1))
        a, b, c = triangles.transpose(1, 0, 2)
        ab, bc, ca = middle.transpose(1, 0, 2)
        parts = [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
        triangles = np.concatenate([np.stack(part, axis=1) for part in parts])
        triangles /= np.linalg.norm(triangles, axis=-1, keepdims=True)
    return triangles
