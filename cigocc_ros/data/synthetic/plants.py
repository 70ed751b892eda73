"""Trees, bushes and hedges: dark cores in shells of loose leaves; nothing that grows is a box."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.arrays import Floats
from cigocc_ros.data.synthetic.mesh import BARK, FOLIAGE, Mesh, ball_points, blob, cylinder
from cigocc_ros.data.synthetic.vehicles import class_id

POINTS_PER_M3 = 80.0
"""Density of sample points inside a crown, beside those on its outer leaves."""
MAX_SAMPLED_HEIGHT_M = 7.5
"""Leaves above this are never inside the voxel grid and are not sampled."""
LEAVES_PER_M2 = 9.0
_CORE_SHARE = 0.74
_SAMPLED_SHARES = (0.45, 0.9)  # of the way from the middle of a leaf to its corners
_CORE_SHADE = 0.45


@dataclass(frozen=True)
class Foliage:
    """Looks of one plant: leaf colour (3,), edge length of a leaf triangle and leaf density."""

    colour: Floats
    leaf_m: float
    density: float

    @classmethod
    def drawn(cls, random: np.random.Generator, detail: float) -> Foliage:
        """Draw a species; `detail` < 1 uses fewer and larger leaves (for plants far away)."""
        return cls(
            leaf_colour(random),
            random.uniform(0.22, 0.4) / np.sqrt(detail),
            LEAVES_PER_M2 * detail,
        )


def leaf_colour(random: np.random.Generator) -> Floats:
    """Return a green between dark conifer, fresh spring, dry summer and autumn."""
    base = np.array([0.075, 0.125, 0.035]) * random.uniform(0.45, 1.5)
    dry = random.random() ** 3
    colour: Floats = base + np.array([0.16, 0.06, 0.0]) * dry * base[1] / 0.125
    return colour


def tree(random: np.random.Generator, detail: float = 1.0, height: float | None = None) -> Mesh:
    """Return a broad-leaved tree or a conifer, 4-14 m high."""
    mesh, leaves = Mesh(), Foliage.drawn(random, detail)
    height = random.uniform(4, 14) if height is None else height
    bark = np.array([0.12, 0.095, 0.075]) * random.uniform(0.6, 1.6)
    if random.random() < 0.15:
        _conifer(mesh, random, height, leaves, bark)
        return mesh
    clear = float(np.clip(height * random.uniform(0.18, 0.4), 1.2, 3.4))
    radius = height * random.uniform(0.01, 0.018) + 0.04
    _trunk(mesh, random, radius, clear + 0.3 * height, clear, bark)
    spread = height * random.uniform(0.2, 0.34)
    for _ in range(random.integers(6, 12)):
        radii = spread * random.uniform(0.4, 0.8, 3) * [1, 1, 0.85]
        low = clear + 0.5 * radii[2]
        level = random.uniform(low, max(height - radii[2], low + 0.3))
        centre = np.array([*(random.normal(size=2) * spread * 0.5), level])
        _crown(mesh, random, radii, centre, leaves)
    return mesh


def bush(random: np.random.Generator, size: float | None = None, detail: float = 1.0) -> Mesh:
    """Return a bush of overlapping leafy balls standing on the ground."""
    mesh, leaves = Mesh(), Foliage.drawn(random, detail)
    size = random.uniform(0.4, 1.7) if size is None else size
    for _ in range(random.integers(1, 5)):
        radii = size * random.uniform(0.45, 1.0, 3)
        centre = np.array([*(random.normal(size=2) * size * 0.5), radii[2] * 0.55])
        _crown(mesh, random, radii, centre, leaves)
    return mesh


def hedge(random: np.random.Generator, length: float, height: float) -> Mesh:
    """Return a clipped or a loose hedge along x."""
    mesh, leaves = Mesh(), Foliage.drawn(random, 1.0)
    leaves = Foliage(leaves.colour, min(leaves.leaf_m, 0.24), leaves.density * 1.4)
    thick, loose = random.uniform(0.4, 1.0), random.uniform(0.02, 0.2)
    for x in np.arange(0, length, 0.6 * height):
        size = random.uniform(1 - loose, 1 + loose, 3)
        radii = np.array([0.62 * height, thick, 0.56 * height]) * size
        _crown(mesh, random, radii, np.array([x, 0, 0.46 * height]), leaves)
    return mesh


def thicket(
    random: np.random.Generator, length: float, depth: float, height: float, detail: float = 0.5
) -> Mesh:
    """Return undergrowth of one height over 0..length along x and 0..depth along y."""
    mesh = Mesh()
    kinds = [Foliage.drawn(random, detail) for _ in range(3)]
    step = 1.1 * height + 0.3
    for x in np.arange(0.4 * step, length, step):
        for y in np.arange(0.0, depth + 0.01, step):
            radii = height * random.uniform(0.45, 0.8, 3) + [0.25, 0.25, 0.0]
            centre = [x, y, 0.5 * radii[2]] + random.normal(size=3) * [0.3 * step, 0.2 * step, 0]
            _crown(mesh, random, radii, centre, kinds[random.integers(len(kinds))])
    return mesh


def _trunk(
    mesh: Mesh,
    random: np.random.Generator,
    radius: float,
    height: float,
    clear: float,
    bark: Floats,
) -> None:
    label = class_id('trunk')
    mesh.add(cylinder(radius, -0.2, height, radius * 0.4), label, BARK, bark)
    for _ in range(random.integers(2, 5)):
        limb = cylinder(radius * 0.5, 0, height * 0.45, radius * 0.15)
        tilt, turn = random.uniform(0.4, 0.9), random.uniform(0, 2 * np.pi)
        limb = limb + np.stack(
            [np.tan(tilt) * limb[..., 2], 0 * limb[..., 2], 0 * limb[..., 2]], -1
        )
        cos, sin = np.cos(turn), np.sin(turn)
        limb = limb @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]]) + [0, 0, clear]
        mesh.add(limb, label, BARK, bark)


def _conifer(
    mesh: Mesh, random: np.random.Generator, height: float, leaves: Foliage, bark: Floats
) -> None:
    mesh.add(cylinder(0.02 * height, -0.2, height * 0.9, 0.02), class_id('trunk'), BARK, bark)
    clear, slim = random.uniform(0.3, 1.2), random.uniform(0.14, 0.28)
    dark = Foliage(leaves.colour * [0.6, 0.65, 0.8], leaves.leaf_m, leaves.density)
    for level in np.linspace(clear, height * 0.95, 7):
        width = slim * (height - level) + 0.2
        radii = np.array([width, width, 0.11 * height])
        _crown(mesh, random, radii, np.array([0, 0, level + 0.4 * radii[2]]), dark)


def _crown(
    mesh: Mesh,
    random: np.random.Generator,
    radii: Floats,
    centre: Floats,
    leaves: Foliage,
) -> None:
    """Add an ellipsoid of foliage: a dark core, leaves around it, sample points within."""
    label = class_id('vegetation')
    shade = leaves.colour * random.uniform(0.75, 1.25)
    core = blob(radii * _CORE_SHARE, 0.1, random, 1) + centre
    mesh.add(core, label, FOLIAGE, shade * _CORE_SHADE)
    area = 4 * np.pi * np.mean([radii[0] * radii[1], radii[0] * radii[2], radii[1] * radii[2]])
    shell = _leaf_triangles(random, int(area * leaves.density) + 8, radii, leaves.leaf_m) + centre
    shell = shell[shell[..., 2].min(axis=1) > -0.1]
    for part in np.array_split(np.arange(len(shell)), 3):
        mesh.add(shell[part], label, FOLIAGE, shade * random.uniform(0.7, 1.35))
    points = ball_points(int(POINTS_PER_M3 * 4.19 * np.prod(radii)), radii, random) + centre
    middle = shell.mean(axis=1, keepdims=True)
    spread = [middle + share * (shell - middle) for share in _SAMPLED_SHARES]
    points = np.concatenate([points, *(sample.reshape(-1, 3) for sample in spread)])
    mesh.add_volume(points[(points[:, 2] > 0) & (points[:, 2] < MAX_SAMPLED_HEIGHT_M)], label)


def _leaf_triangles(
    random: np.random.Generator, count: int, radii: Floats, edge_m: float
) -> NDArray[np.float64]:
    """Return triangles (count, 3, 3) strewn over the shell of an ellipsoid, turned at random."""
    direction = random.normal(size=(count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    depth = 1.04 - 0.34 * random.random((count, 1)) ** 1.5
    middle = direction * depth * radii
    corners = random.normal(size=(count, 3, 3))
    corners *= 0.6 * edge_m / np.linalg.norm(corners, axis=2, keepdims=True)
    leaves: NDArray[np.float64] = middle[:, None] + corners
    return leaves
