"""The layout of one street: what stands where, from a seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.data.synthetic import furniture, plants, vehicles
from cigocc_ros.data.synthetic.mesh import ASPHALT, GROUND, Mesh, pose, quads
from cigocc_ros.data.synthetic.vehicles import class_id

Random = np.random.Generator
Builder = Callable[[Random], Mesh]
VIEW_M = 62.0
"""The street reaches this far before the first and beyond the last frame."""
SIDE_M = 42.0
KERB_M = 0.13
CLEARANCE_M = 2.3
"""Nothing is parked nearer to the middle of the ego lane."""

GREY, GRASS, SLAB, EARTH = (
    (0.16, 0.16, 0.165),
    (0.13, 0.17, 0.06),
    (0.36, 0.34, 0.32),
    (0.28, 0.22, 0.15),
)
_RARE: dict[str, Builder] = {
    'truck': vehicles.truck,
    'other-vehicle': vehicles.other_vehicle,
    'bicycle': vehicles.bicycle,
    'motorcycle': vehicles.motorcycle,
}
_MOVERS: dict[str, Builder] = {
    'bicyclist': vehicles.bicyclist,
    'motorcyclist': vehicles.motorcyclist,
    'person': vehicles.person,
}


@dataclass(frozen=True)
class Mover:
    """Something that moves along x: its mesh, start, speed and heading."""

    mesh: Mesh
    x: float
    y: float
    z: float
    speed_mps: float

    def at(self, time_s: float) -> NDArray[np.float64]:
        """Return its (4, 4) pose at a time."""
        yaw = 0.0 if self.speed_mps >= 0 else np.pi
        return pose(self.x + self.speed_mps * time_s, self.y, self.z, yaw)


@dataclass
class Street:
    """Static mesh, movers, and the bend that turns the straight layout into a curved road."""

    static: Mesh = field(default_factory=Mesh)
    movers: list[Mover] = field(default_factory=list)
    lane_y: float = -1.7
    curvature: float = 0.0
    slope: float = 0.0

    def bent(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return layout points (..., 3) in the bent world: y += c x^2 / 2, z += slope x."""
        x = points[..., 0]
        lift = np.stack([0 * x, 0.5 * self.curvature * x**2, self.slope * x], axis=-1)
        result: NDArray[np.float64] = points + lift
        return result

    def heading(self, x: float) -> tuple[float, float]:
        """Return yaw and pitch of the road at x, radians."""
        return float(np.arctan(self.curvature * x)), float(-np.arctan(self.slope))


def build_street(random: Random, length_m: float) -> Street:
    """Lay out a street for an ego drive of `length_m` along x: suburb or open country."""
    street = Street(curvature=random.normal() * 0.0025, slope=random.normal() * 0.012)
    start, stop = -VIEW_M, length_m + VIEW_M
    country = random.random() < 0.25
    half_road = random.uniform(3.0, 4.5)
    street.lane_y = -0.3 * half_road
    _strip(street.static, random, start, stop, -half_road, half_road, 0.0, 'road', GREY)
    _markings(street.static, random, start, stop, half_road)
    for side in (-1, 1):
        if country:
            _country_side(street, random, side, start, stop, half_road)
        else:
            _suburb_side(street, random, side, start, stop, half_road)
    _traffic(street, random, start, stop, half_road)
    return street


def _strip(
    mesh: Mesh, random: Random, x0: float, x1: float, y0: float, y1: float, z: float, name: str,
    colour: tuple[float, float, float], bumps: float = 0.0, kerb: float = 0.0,
) -> None:  # fmt: skip
    """Lay a strip of ground between y0 < y1, with a vertical kerb of `kerb` metres at both edges."""
    step = 1.0 if bumps == 0 else 1.5
    xs = np.linspace(x0, x1, max(2, int((x1 - x0) / step) + 1))
    ys = np.linspace(y0, y1, 2 if bumps == 0 else max(2, int((y1 - y0) / step) + 1))
    height = z + bumps * _waves(random, xs[:, None], ys[None])
    grid = np.stack(np.broadcast_arrays(xs[:, None], ys[None], height), axis=-1)
    cells = np.stack([grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]], axis=2)
    surface = ASPHALT if name in ('road', 'parking') else GROUND
    shade = np.array(colour) * random.uniform(0.75, 1.3)
    mesh.add(quads(cells.reshape(-1, 4, 3)), class_id(name), surface, shade)
    if kerb > 0:
        for y in (y0, y1):
            low = np.array([[a, y, z - kerb] for a in xs])
            high = low + [0, 0, kerb]
            walls = np.stack([low[:-1], low[1:], high[1:], high[:-1]], axis=1)
            mesh.add(quads(walls), class_id(name), GROUND, shade * 0.8)


def _waves(random: Random, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    total = np.zeros(np.broadcast_shapes(x.shape, y.shape))
    for _ in range(4):
        fx, fy, phase = random.normal() * 0.25, random.normal() * 0.25, random.uniform(0, 6.28)
        total = total + 0.25 * np.sin(fx * x + fy * y + phase)
    return total


def _markings(mesh: Mesh, random: Random, x0: float, x1: float, half: float) -> None:
    if random.random() < 0.4:
        return
    starts = np.arange(x0, x1, 6.0)
    corners = [[(x, -0.06), (x + 3, -0.06), (x + 3, 0.06), (x, 0.06)] for x in starts]
    flat = np.array([[(x, y, 0.004) for x, y in quad] for quad in corners])
    mesh.add(quads(flat), class_id('road'), ASPHALT, (0.75, 0.75, 0.72))


def _suburb_side(
    street: Street, random: Random, side: int, x0: float, x1: float, half: float
) -> None:
    """Fill one side: parking lane, sidewalk, front gardens, houses, what stands between."""
    mesh, edge = street.static, half

    def strip(
        width: float, z: float, name: str, colour: tuple[float, float, float], **kw: float
    ) -> None:
        nonlocal edge
        low, high = sorted((side * edge, side * (edge + width)))
        _strip(mesh, random, x0, x1, low, high, z, name, colour, **kw)
        edge += width

    parking = random.random() < 0.45
    if parking:
        strip(2.2, 0.0, 'parking', (0.2, 0.2, 0.2))
    elif random.random() < 0.3:
        strip(random.uniform(0.8, 2.0), 0.05, 'terrain', GRASS, bumps=0.05)
    parked_y = side * (edge - 1.1)
    walk = random.uniform(1.4, 3.2)
    strip(walk, KERB_M, 'sidewalk', SLAB, kerb=KERB_M)
    walk_y = side * (edge - 0.5 * walk)
    boundary = edge
    garden = random.uniform(0.0, 7.0)
    if garden > 0.5:
        kind = random.random()
        name, colour = ('terrain', GRASS) if kind < 0.8 else ('other-ground', EARTH)
        strip(garden, KERB_M, name, colour, bumps=0.1)
    _houses(street, random, side, x0, x1, edge)
    strip(SIDE_M - edge, 0.1, 'terrain', GRASS, bumps=0.25)
    _boundary(street, random, side, x0, x1, boundary, garden)
    _parked(street, random, side, x0, x1, parked_y, 0.75 if parking else 0.3)
    _kerbside(street, random, side, x0, x1, boundary, walk_y)
    _gardens(street, random, side, x0, x1, boundary, garden)


def _country_side(
    street: Street, random: Random, side: int, x0: float, x1: float, half: float
) -> None:
    """Fill one side of a country road: verge, bank, bushes, tree rows, a few buildings."""
    mesh = street.static
    rise = random.uniform(-0.8, 1.5)
    near, far = half + random.uniform(1.5, 5), SIDE_M
    low, high = sorted((side * half, side * near))
    _strip(mesh, random, x0, x1, low, high, 0.0, 'terrain', GRASS, bumps=0.08)
    low, high = sorted((side * near, side * far))
    _strip(mesh, random, x0, x1, low, high, 0.5 * rise, 'terrain', GRASS, bumps=0.6)
    if random.random() < 0.4:
        for x in np.arange(x0, x1, 12.0):
            mesh.extend(furniture.fence(random, 12.0), pose(x, side * (half + 0.8)))
    density = random.uniform(0.2, 1.0)
    for x in np.arange(x0, x1, 1.5):
        if random.random() < density:
            y = side * (near + random.exponential(5.0))
            plant = plants.tree(random) if random.random() < 0.4 else plants.bush(random)
            mesh.extend(plant, pose(x + random.normal(), y, 0.3 * rise))
        if random.random() < 0.04:
            pole = furniture.pole if random.random() < 0.6 else furniture.sign
            mesh.extend(pole(random), pose(x, side * (half + 1.2)))
    if random.random() < 0.5:
        _houses(street, random, side, x0, x1, near + random.uniform(5, 15), 0.15)


def _houses(
    street: Street,
    random: Random,
    side: int,
    x0: float,
    x1: float,
    edge: float,
    share: float = 0.7,
) -> None:
    x = x0
    while x < x1:
        length, depth = random.uniform(7, 18), random.uniform(7, 12)
        if random.random() < share:
            house = furniture.building(random, length, depth)
            back = edge + random.uniform(0, 1.5)
            # A house faces the road: mirror its depth axis on the right side.
            place = pose(x, side * back) @ np.diag([1.0, side, 1, 1])
            street.static.extend(house, place)
        else:
            _grove(street, random, side, x, x + length, edge)
        x += length + random.uniform(0, 9)


def _grove(street: Street, random: Random, side: int, x0: float, x1: float, edge: float) -> None:
    """Fill a gap between houses with trees and bushes."""
    for _ in range(int((x1 - x0) * random.uniform(0.3, 1.0))):
        plant = plants.tree(random) if random.random() < 0.4 else plants.bush(random, 1.6)
        y = side * (edge + random.exponential(4.0))
        street.static.extend(plant, pose(random.uniform(x0, x1), y))


def _boundary(
    street: Street, random: Random, side: int, x0: float, x1: float, edge: float, garden: float
) -> None:
    """Put fences and hedges along the front gardens."""
    if garden < 1.0:
        return
    x = x0
    while x < x1:
        length = random.uniform(5, 14)
        kind, place = random.random(), pose(x, side * (edge + 0.4), KERB_M)
        if kind < 0.4:
            street.static.extend(furniture.fence(random, length), place)
        elif kind < 0.85:
            street.static.extend(plants.hedge(random, length, random.uniform(0.8, 2.6)), place)
        x += length + random.uniform(0.5, 4)


def _parked(
    street: Street, random: Random, side: int, x0: float, x1: float, y: float, share: float
) -> None:
    if abs(y - street.lane_y) < CLEARANCE_M:
        return
    x = x0
    while x < x1:
        if random.random() < share:
            draw = random.random()
            rare = list(_RARE.values())
            builder = vehicles.car if draw < 0.85 else rare[random.integers(len(rare))]
            yaw = (0.0 if side < 0 else np.pi) + random.normal() * 0.03
            street.static.extend(builder(random), pose(x, y + random.normal() * 0.12, 0.0, yaw))
            x += 9.0 if builder in (vehicles.truck, vehicles.other_vehicle) else 0.0
        x += random.uniform(5.3, 8.0)


def _kerbside(
    street: Street, random: Random, side: int, x0: float, x1: float, edge: float, walk_y: float
) -> None:
    """Put poles, signs, street trees, cycles and people on the sidewalk."""
    mesh = street.static
    avenue = random.random() < 0.5
    for x in np.arange(x0, x1, 7.0):
        if avenue and random.random() < 0.7:
            mesh.extend(plants.tree(random), pose(x, side * (edge - 0.4), KERB_M))
        draw = random.random()
        if draw < 0.16:
            mesh.extend(furniture.pole(random), pose(x + 2.5, side * (edge - 0.3), KERB_M))
        elif draw < 0.3:
            mesh.extend(furniture.sign(random), pose(x + 3.5, side * (edge - 0.5), KERB_M))
        elif draw < 0.42:
            cycle = vehicles.bicycle if random.random() < 0.6 else vehicles.motorcycle
            yaw = random.uniform(0, np.pi)
            mesh.extend(cycle(random), pose(x + 3, side * (edge - 0.4), KERB_M, yaw))
        elif draw < 0.55:
            speed = random.choice([-1.3, 0.0, 1.3])
            walker = Mover(vehicles.person(random), x, walk_y, KERB_M, speed)
            street.movers.append(walker)


def _gardens(
    street: Street, random: Random, side: int, x0: float, x1: float, edge: float, garden: float
) -> None:
    if garden < 2.0:
        return
    for x in np.arange(x0, x1, 2.0):
        if random.random() < 0.65:
            plant = plants.tree(random) if random.random() < 0.3 else plants.bush(random)
            y = side * (edge + random.uniform(1.0, garden))
            street.static.extend(plant, pose(x + random.normal(), y, KERB_M))


def _traffic(street: Street, random: Random, x0: float, x1: float, half: float) -> None:
    """Add oncoming and preceding traffic; nothing drives through the ego vehicle."""
    for x in np.arange(x0, x1, 14.0):
        if random.random() < 0.3:
            speed = -random.uniform(5, 12)
            builder = vehicles.car if random.random() < 0.7 else _rare_mover(random)
            street.movers.append(Mover(builder(random), x, 0.38 * half, 0.0, speed))
    if random.random() < 0.5:
        ahead = random.uniform(12, 40)
        builder = vehicles.car if random.random() < 0.7 else _rare_mover(random)
        street.movers.append(Mover(builder(random), ahead, street.lane_y, 0.0, EGO_SPEED_MPS))


EGO_SPEED_MPS = 10.0
"""Ego speed that movers' times refer to: the frame at x metres is seen at x / speed seconds."""


def _rare_mover(random: Random) -> Builder:
    choices = [*_RARE.values(), *_MOVERS.values()][:2] + list(_MOVERS.values())
    return choices[random.integers(len(choices))]
