"""Strips of ground: roads, sidewalks, lawns, kerbs and painted lines, as meshes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cigocc_ros.core.arrays import Floats
from cigocc_ros.data.synthetic.mesh import ASPHALT, GRASS, GROUND, PAVING, Mesh, quads
from cigocc_ros.data.synthetic.vehicles import class_id

Height = Callable[[Floats, Floats], Floats]
LINE_WIDTH_M = 0.13
LINE_LIFT_M = 0.004


@dataclass(frozen=True)
class Cover:
    """What covers a strip: class name, surface kind, colour."""

    name: str
    surface: int
    colour: tuple[float, float, float]


ROAD = Cover('road', ASPHALT, (0.13, 0.13, 0.132))
PARKING = Cover('parking', ASPHALT, (0.17, 0.165, 0.16))
PAVED_PARKING = Cover('parking', PAVING, (0.24, 0.22, 0.2))
SIDEWALK = Cover('sidewalk', PAVING, (0.27, 0.26, 0.245))
TARRED_SIDEWALK = Cover('sidewalk', ASPHALT, (0.17, 0.168, 0.165))
LAWN = Cover('terrain', GRASS, (0.1, 0.125, 0.04))
DRY_GRASS = Cover('terrain', GRASS, (0.17, 0.145, 0.07))
EARTH = Cover('terrain', GROUND, (0.19, 0.145, 0.1))
GRAVEL = Cover('other-ground', GROUND, (0.3, 0.28, 0.25))
CONCRETE = Cover('other-ground', PAVING, (0.33, 0.32, 0.3))


def flat(z: float) -> Height:
    """Return the height function of a level strip."""
    return lambda x, y: np.full(np.broadcast_shapes(x.shape, y.shape), z)


def rolling(
    random: np.random.Generator, z: float, bumps_m: float, bank: Height | None = None
) -> Height:
    """Return the height function of uneven ground: `z`, waves of `bumps_m` and a bank."""
    waves = [(*(random.normal(size=2) * 0.25), random.uniform(0, 6.28)) for _ in range(4)]

    def height(x: Floats, y: Floats) -> Floats:
        total = np.zeros(np.broadcast_shapes(x.shape, y.shape))
        for fx, fy, phase in waves:
            total = total + 0.25 * bumps_m * np.sin(fx * x + fy * y + phase)
        return z + total + (0 if bank is None else bank(x, y))

    return height


def strip(
    mesh: Mesh, cover: Cover, xs: tuple[float, float], ys: tuple[float, float], height: Height,
    shade: float = 1.0, step_m: float = 1.5,
) -> None:  # fmt: skip
    """Lay ground over the rectangle xs x ys, in cells of about `step_m`."""
    low, high = sorted(ys)
    x = np.linspace(xs[0], xs[1], max(2, int((xs[1] - xs[0]) / step_m) + 1))
    y = np.linspace(low, high, max(2, int((high - low) / step_m) + 1))
    z = height(x[:, None], y[None])
    grid = np.stack(np.broadcast_arrays(x[:, None], y[None], z), axis=-1)
    cells = np.stack([grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]], axis=2)
    colour = np.array(cover.colour) * shade
    mesh.add(quads(cells.reshape(-1, 4, 3)), class_id(cover.name), cover.surface, colour)


def kerb(
    mesh: Mesh, start: tuple[float, float], end: tuple[float, float], height_m: float,
    shade: float = 1.0,
) -> None:  # fmt: skip
    """Stand a kerb between two points (x, y), from the road up to `height_m`."""
    count = max(2, int(np.hypot(end[0] - start[0], end[1] - start[1]) / 1.5) + 1)
    low = np.column_stack([np.linspace(start, end, count), np.zeros(count)])
    high = low + [0, 0, height_m]
    walls = np.stack([low[:-1], low[1:], high[1:], high[:-1]], axis=1)
    mesh.add(quads(walls), class_id(SIDEWALK.name), PAVING, np.array([0.36, 0.35, 0.33]) * shade)


def line(
    mesh: Mesh, xs: tuple[float, float], y: float, dash_m: float | None, period_m: float,
    width_m: float = LINE_WIDTH_M,
) -> None:  # fmt: skip
    """Paint a line along x, solid (dash_m None) or dashed."""
    starts = np.arange(xs[0], xs[1], period_m)
    ends = np.minimum(starts + (period_m if dash_m is None else dash_m), xs[1])
    bars(
        mesh, [(a, b, y - width_m / 2, y + width_m / 2) for a, b in zip(starts, ends, strict=True)]
    )


def bars(mesh: Mesh, rectangles: list[tuple[float, float, float, float]]) -> None:
    """Paint white rectangles (x0, x1, y0, y1) on the road."""
    corners = [[(a, c), (b, c), (b, d), (a, d)] for a, b, c, d in rectangles]
    points = np.array([[(x, y, LINE_LIFT_M) for x, y in quad] for quad in corners])
    mesh.add(quads(points), class_id('road'), ASPHALT, (0.62, 0.62, 0.6))
