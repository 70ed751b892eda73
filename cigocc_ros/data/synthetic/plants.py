"""Trees, bushes and hedges; nothing that grows is a box."""

from __future__ import annotations

import numpy as np

from cigocc_ros.data.synthetic.mesh import BARK, FOLIAGE, Mesh, ball_points, blob, cylinder
from cigocc_ros.data.synthetic.vehicles import class_id

POINTS_PER_M3 = 60.0


def leaf_colour(random: np.random.Generator) -> np.ndarray:
    """Return a green between spring and dry summer."""
    base = np.array([0.09, 0.17, 0.05]) * random.uniform(0.6, 1.6)
    return base + np.array([0.08, 0.04, 0.0]) * random.random()


def tree(random: np.random.Generator) -> Mesh:
    """Return a broad-leaved tree or a conifer, 4-11 m high."""
    mesh = Mesh()
    height = random.uniform(4, 11)
    radius = height * random.uniform(0.012, 0.025) + 0.04
    clear = min(height * random.uniform(0.2, 0.4), 3.2)
    bark = np.array([0.16, 0.12, 0.09]) * random.uniform(0.6, 1.5)
    mesh.add(cylinder(radius, 0, height * 0.7, radius * 0.5), class_id('trunk'), BARK, bark)
    colour = leaf_colour(random)
    if random.random() < 0.2:
        _cone_crown(mesh, random, height, clear, colour)
        return mesh
    spread = height * random.uniform(0.16, 0.26)
    for _ in range(random.integers(4, 8)):
        radii = spread * random.uniform(0.45, 0.75, 3)
        level = random.uniform(clear + 0.4 * radii[2], max(height - radii[2], clear + radii[2]))
        centre = [*(random.normal(size=2) * spread * 0.4), level]
        _crown(mesh, random, radii, np.array(centre), colour)
    return mesh


def bush(random: np.random.Generator, size: float | None = None) -> Mesh:
    """Return a bush of overlapping blobs standing on the ground."""
    mesh, colour = Mesh(), leaf_colour(random)
    size = random.uniform(0.5, 1.5) if size is None else size
    for _ in range(random.integers(1, 4)):
        radii = size * random.uniform(0.5, 1.0, 3)
        centre = np.array([*(random.normal(size=2) * size * 0.4), radii[2] * 0.6])
        _crown(mesh, random, radii, centre, colour)
    return mesh


def hedge(random: np.random.Generator, length: float, height: float) -> Mesh:
    """Return a hedge along x: a row of flattened, rough blobs."""
    mesh, colour = Mesh(), leaf_colour(random)
    thick = random.uniform(0.35, 0.6)
    for x in np.arange(0, length, 0.7 * height):
        radii = np.array([0.62 * height, thick, 0.62 * height]) * random.uniform(0.9, 1.1, 3)
        _crown(mesh, random, radii, np.array([x, 0, 0.45 * height]), colour)
    return mesh


def _crown(
    mesh: Mesh,
    random: np.random.Generator,
    radii: np.ndarray,
    centre: np.ndarray,
    colour: np.ndarray,
) -> None:
    label = class_id('vegetation')
    shade = colour * random.uniform(0.75, 1.25)
    mesh.add(blob(radii, 0.12, random, 2) + centre, label, FOLIAGE, shade)
    count = int(POINTS_PER_M3 * 4.19 * np.prod(radii))
    points = ball_points(count, radii, random) + centre
    mesh.add_volume(points[points[:, 2] > 0], label)


def _cone_crown(
    mesh: Mesh, random: np.random.Generator, height: float, clear: float, colour: np.ndarray
) -> None:
    for level in np.linspace(clear, height * 0.9, 5):
        width = 0.28 * (height - level) + 0.3
        radii = np.array([width, width, 0.14 * height])
        _crown(mesh, random, radii, np.array([0, 0, level]), colour * 0.7)
