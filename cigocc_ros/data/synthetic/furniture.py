"""Buildings, fences, walls, poles and signs."""

from __future__ import annotations

import numpy as np

from cigocc_ros.data.synthetic.mesh import (
    GROUND,
    PAINT,
    PLAIN,
    WALL,
    Mesh,
    box,
    cylinder,
    extruded,
)
from cigocc_ros.data.synthetic.vehicles import STEEL, class_id

_PLASTER = np.array(
    [
        [0.62, 0.58, 0.5], [0.7, 0.69, 0.66], [0.55, 0.42, 0.32], [0.45, 0.25, 0.2],
        [0.6, 0.5, 0.35], [0.5, 0.5, 0.48], [0.66, 0.55, 0.45],
    ]
)  # fmt: skip
_SIGNS = np.array([[0.6, 0.03, 0.03], [0.05, 0.15, 0.5], [0.75, 0.75, 0.72], [0.7, 0.55, 0.05]])


def building(random: np.random.Generator, length: float, depth: float) -> Mesh:
    """Return a house of `length` along x and `depth` along +y, its front at y = 0."""
    mesh, label = Mesh(), class_id('building')
    height = random.uniform(3.0, 11.0)
    wall = random.choice(_PLASTER) * random.uniform(0.7, 1.15)
    mesh.add(box((0, 0, -1), (length, depth, height)), label, WALL, wall)
    if random.random() < 0.7:
        rise = random.uniform(1.5, 3.5)
        half = depth / 2
        profile = [(-0.3, height), (depth + 0.3, height), (half, height + rise)]
        roof = extruded(profile, length + 0.5, length + 0.5)[..., [1, 0, 2]]
        roof = roof + [length / 2, 0, 0]
        mesh.add(roof, label, PLAIN, np.array([0.3, 0.14, 0.1]) * random.uniform(0.5, 1.4))
    if random.random() < 0.5:
        start = random.uniform(0, max(length - 3, 0.1))
        porch = box(
            (start, -random.uniform(0.3, 1.2), -1), (start + 2.5, 0.1, random.uniform(2, 3))
        )
        mesh.add(porch, label, WALL, wall * 0.9)
    return mesh


def fence(random: np.random.Generator, length: float) -> Mesh:
    """Return a fence along x: pickets, boards, rails or a low wall."""
    mesh, label = Mesh(), class_id('fence')
    height = random.uniform(0.8, 1.9)
    colour = random.choice([[0.35, 0.25, 0.17], [0.5, 0.5, 0.48], [0.15, 0.18, 0.15]])
    kind = random.integers(3)
    if kind == 0:
        mesh.add(box((0, -0.06, -0.3), (length, 0.06, height)), label, GROUND, np.array(colour))
        return mesh
    step = 0.18 if kind == 1 else 2.0
    posts = [box((x, -0.04, -0.3), (x + 0.1, 0.04, height)) for x in np.arange(0, length, step)]
    rails = [box((0, -0.03, z), (length, 0.03, z + 0.12)) for z in (0.25 * height, 0.8 * height)]
    mesh.add(np.concatenate(posts + rails), label, PLAIN, np.array(colour))
    return mesh


def pole(random: np.random.Generator) -> Mesh:
    """Return a lamp post or a utility pole."""
    mesh, label = Mesh(), class_id('pole')
    height = random.uniform(3.5, 8)
    mesh.add(cylinder(random.uniform(0.06, 0.14), 0, height), label, PLAIN, STEEL)
    if random.random() < 0.7:
        mesh.add(box((-0.06, -1.2, height - 0.15), (0.06, 0.1, height)), label, PLAIN, STEEL)
    return mesh


def sign(random: np.random.Generator) -> Mesh:
    """Return a traffic sign on its pole, facing -x."""
    mesh = Mesh()
    height = random.uniform(1.9, 2.8)
    mesh.add(cylinder(0.04, 0, height), class_id('pole'), PLAIN, STEEL)
    half = random.uniform(0.3, 0.45)
    plate = box((-0.08, -half, height - half), (-0.03, half, height + half))
    mesh.add(plate, class_id('traffic-sign'), PAINT, random.choice(_SIGNS))
    return mesh
