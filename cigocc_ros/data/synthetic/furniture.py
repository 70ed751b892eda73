"""What stands along streets: fences, walls, guard rails, poles and signs."""

from __future__ import annotations

import numpy as np

from cigocc_ros.data.synthetic.mesh import BRICK, PAINT, PLAIN, WALL, Mesh, box, cylinder
from cigocc_ros.data.synthetic.vehicles import STEEL, class_id

_SIGNS = np.array([[0.5, 0.02, 0.02], [0.03, 0.1, 0.42], [0.75, 0.75, 0.72], [0.7, 0.5, 0.03]])
_FENCES = np.array([[0.2, 0.13, 0.08], [0.4, 0.4, 0.38], [0.06, 0.09, 0.06], [0.65, 0.64, 0.6]])


def fence(random: np.random.Generator, length: float) -> Mesh:
    """Return a fence along x: a low wall, pickets, boards or posts with rails."""
    mesh, label = Mesh(), class_id('fence')
    height, draw = random.uniform(0.8, 1.8), random.random()
    if draw < 0.3:
        brick = random.random() < 0.3
        colour = np.array([0.3, 0.16, 0.11]) if brick else np.ones(3) * random.uniform(0.25, 0.6)
        wall = box((0, -0.12, -0.5), (length, 0.12, height * 0.8))
        mesh.add(wall, label, BRICK if brick else WALL, colour)
        return mesh
    colour = random.choice(_FENCES) * random.uniform(0.7, 1.3)
    step, width = (0.16, 0.1) if draw < 0.6 else (0.22, 0.2) if draw < 0.75 else (2.2, 0.1)
    posts = [box((x, -0.02, -0.3), (x + width, 0.02, height)) for x in np.arange(0, length, step)]
    levels = (0.25, 0.8) if step < 1 else np.linspace(0.15, 0.95, 8)
    rails = [box((0, 0.02, z * height), (length, 0.05, z * height + 0.06)) for z in levels]
    mesh.add(np.concatenate(posts + rails), label, PLAIN, colour)
    return mesh


def guard_rail(length: float) -> Mesh:
    """Return a crash barrier along x."""
    mesh = Mesh()
    posts = [box((x, -0.05, -0.3), (x + 0.1, 0.05, 0.6)) for x in np.arange(0, length, 4.0)]
    rails = [box((0, -0.12, 0.42), (length, -0.05, 0.75))]
    mesh.add(np.concatenate(posts + rails), class_id('fence'), PLAIN, np.array(STEEL) * 1.1)
    return mesh


def pole(random: np.random.Generator) -> Mesh:
    """Return a lamp post, a utility pole or a bollard, its lamp towards -y."""
    mesh, label = Mesh(), class_id('pole')
    draw = random.random()
    if draw < 0.15:
        mesh.add(cylinder(0.07, -0.2, random.uniform(0.8, 1.1)), label, PLAIN, STEEL)
        return mesh
    height = random.uniform(4.0, 9.0)
    wood = draw > 0.8
    colour = np.array([0.2, 0.15, 0.11]) if wood else np.array(STEEL) * random.uniform(0.4, 1.4)
    radius = random.uniform(0.06, 0.13)
    mesh.add(cylinder(radius * 1.2, -0.2, height, radius * 0.8), label, PLAIN, colour)
    if wood:
        mesh.add(
            box((-0.8, -0.06, height - 0.5), (0.8, 0.06, height - 0.38)), label, PLAIN, colour
        )
    else:
        reach = random.uniform(0.4, 2.0)
        arm = box((-0.04, -reach, height - 0.12), (0.04, 0.1, height - 0.04))
        lamp = box((-0.15, -reach - 0.5, height - 0.2), (0.15, -reach, height - 0.06))
        mesh.add(np.concatenate([arm, lamp]), label, PLAIN, colour)
    return mesh


def sign(random: np.random.Generator) -> Mesh:
    """Return a traffic sign on its pole, facing -x: a disc, a triangle or a plate."""
    mesh, label = Mesh(), class_id('traffic-sign')
    height = random.uniform(1.9, 2.8)
    mesh.add(cylinder(0.035, -0.2, height + 0.3), class_id('pole'), PLAIN, STEEL)
    size, corners = random.uniform(0.3, 0.45), int(random.choice([3, 4, 12, 12]))
    colour = _SIGNS[random.integers(len(_SIGNS))]
    for share, lift, paint in ((1.0, 0.0, colour), (0.72, 0.006, _SIGNS[random.integers(3)])):
        plate = _plate(size * share, corners) + [-0.05 - lift, 0, height]
        mesh.add(plate, label, PAINT, paint)
    return mesh


def board(random: np.random.Generator) -> Mesh:
    """Return a large direction sign or a town sign on two poles, facing -x."""
    mesh = Mesh()
    half, low, high = random.uniform(0.5, 1.3), random.uniform(0.9, 2.2), random.uniform(2.6, 3.4)
    for y in (-0.8 * half, 0.8 * half):
        post = cylinder(0.045, -0.2, high) + [0, y, 0]
        mesh.add(post, class_id('pole'), PLAIN, STEEL)
    plate = box((-0.1, -half, low), (-0.05, half, high))
    mesh.add(plate, class_id('traffic-sign'), PAINT, random.choice(_SIGNS))
    return mesh


def _plate(size: float, corners: int) -> np.ndarray:
    """Return a regular plate in the y-z plane as a fan; triangles stand on their base."""
    angle = 2 * np.pi * np.arange(corners) / corners + (np.pi / 4 if corners == 4 else np.pi / 2)
    rim = np.column_stack([0 * angle, size * np.cos(angle), size * np.sin(angle)])
    fan = [(0, i, i + 1) for i in range(1, corners - 1)]
    return np.asarray(rim[np.array(fan)])
