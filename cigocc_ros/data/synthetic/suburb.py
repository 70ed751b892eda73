"""One side of a town street: parking, sidewalk, gardens, houses and what stands between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cigocc_ros.data.synthetic import buildings, cars, furniture, ground, plants, vehicles
from cigocc_ros.data.synthetic.mesh import Mesh, pose
from cigocc_ros.data.synthetic.street import KERB_M, SIDE_M, Mover, Random, Street

Span = tuple[float, float]
_PARKED: tuple[tuple[float, float, Callable[[Random], Mesh]], ...] = (
    # share, length needed beyond a car's, builder
    (0.93, 0.0, cars.car),
    (0.03, 4.0, vehicles.truck),
    (0.04, 6.0, vehicles.other_vehicle),
)


@dataclass(frozen=True)
class SuburbStyle:
    """What one side of a street keeps over all its blocks; distances from the road's middle."""

    half_road: float
    parking_m: float
    verge_m: float
    walk_m: float
    garden_m: float
    parked_share: float
    cars_on_walk: bool
    avenue: bool
    dense: bool
    kerb_parking: bool
    green: float
    walk: ground.Cover
    shade: float

    @classmethod
    def drawn(cls, random: Random, half_road: float, kerb_parking: bool) -> SuburbStyle:
        """Draw a style between a narrow old street and a leafy avenue."""
        dense = bool(random.random() < 0.45)
        parking = not kerb_parking and random.random() < 0.5
        return cls(
            half_road,
            random.uniform(2.0, 2.4) if parking else 0.0,
            random.uniform(0.8, 2.5) if random.random() < 0.22 else 0.0,
            random.uniform(2.0, 5.5),
            0.0 if dense and random.random() < 0.6 else random.uniform(1.5, 7.5),
            random.uniform(0.2, 0.95) if random.random() < 0.75 else 0.05,
            bool(random.random() < 0.4),
            bool(random.random() < 0.45),
            dense,
            kerb_parking,
            random.uniform(0.45, 1.1),
            ground.SIDEWALK if random.random() < 0.6 else ground.TARRED_SIDEWALK,
            random.uniform(0.75, 1.35),
        )

    @property
    def kerb_y(self) -> float:
        """Where the kerb stands."""
        return self.half_road + self.parking_m

    @property
    def walk_y(self) -> float:
        """Inner edge of the sidewalk."""
        return self.kerb_y + self.verge_m

    @property
    def edge_y(self) -> float:
        """Outer edge of the sidewalk."""
        return self.walk_y + self.walk_m


def suburb_block(street: Street, random: Random, side: int, xs: Span, style: SuburbStyle) -> None:
    """Build one block of one side (+1 left, -1 right) over the layout interval xs."""
    _street_floor(street, random, side, xs, style)
    x = xs[0]
    while x < xs[1] - 3:
        end = min(x + random.uniform(9, 24), xs[1])
        _lot(street, random, side, (x, end), style)
        x = end
    _parked(street, random, side, xs, style)
    _kerbside(street, random, side, xs, style)


def _street_floor(street: Street, random: Random, side: int, xs: Span, style: SuburbStyle) -> None:
    mesh = Mesh()
    if style.parking_m:
        cover = ground.PARKING if random.random() < 0.5 else ground.PAVED_PARKING
        ys = (side * style.half_road, side * style.kerb_y)
        ground.strip(mesh, cover, xs, ys, ground.flat(0.0), style.shade)
    y = side * style.kerb_y
    ground.kerb(mesh, (xs[0], y), (xs[1], y), KERB_M, style.shade)
    for x in xs:
        ground.kerb(mesh, (x, y), (x, side * style.edge_y), KERB_M, style.shade)
    if style.verge_m:
        height = ground.rolling(random, KERB_M, 0.05)
        ground.strip(mesh, ground.LAWN, xs, (y, side * style.walk_y), height, style.shade)
    ys = (side * style.walk_y, side * style.edge_y)
    ground.strip(mesh, style.walk, xs, ys, ground.flat(KERB_M), style.shade)
    street.lay(mesh)


def _lot(street: Street, random: Random, side: int, xs: Span, style: SuburbStyle) -> None:
    """Fill one plot: its ground, its house or trees, its boundary and garden."""
    draw = random.random()
    empty = draw < (0.06 if style.dense else 0.17)
    garden = style.garden_m * random.uniform(0.7, 1.3)
    cover = ground.LAWN if random.random() < 0.85 else ground.GRAVEL
    if empty:
        cover = ground.LAWN if random.random() < 0.85 else ground.CONCRETE
    mesh, height = Mesh(), ground.rolling(random, KERB_M, 0.12)
    shade = random.uniform(0.7, 1.3)
    front = style.edge_y + max(garden, 0.05)
    ground.strip(mesh, cover, xs, (side * style.edge_y, side * front), height, shade)
    ground.strip(mesh, ground.LAWN, xs, (side * front, side * SIDE_M), height, shade, 2.5)
    street.lay(mesh)
    if empty and random.random() < 0.75:
        _grove(street, random, side, xs, style)
    elif not empty:
        _house(street, random, side, xs, front, style)
    roomy = xs[1] - xs[0] > 8 and garden > 2 and not empty
    drive = 0.0 if not roomy else float(random.choice([0.0, 3.2]))
    _boundary(street, random, side, (xs[0] + drive, xs[1]), style, garden)
    if drive:
        _driveway(street, random, side, xs[0], drive, style, front)
    _garden(
        street, random, side, (xs[0] + drive, xs[1]), style, front if not empty else SIDE_M - 12
    )
    _backyard(street, random, side, xs, front + (13 if not empty else 0), style)


def _grove(street: Street, random: Random, side: int, xs: Span, style: SuburbStyle) -> None:
    """Fill a plot without a house with undergrowth and trees up to the sidewalk."""
    start, yaw = style.edge_y + random.uniform(0.4, 2.0), 0.0 if side > 0 else np.pi
    brush = plants.thicket(random, xs[1] - xs[0], random.uniform(2, 5), random.uniform(0.5, 1.9))
    street.lay(brush, pose(xs[0] if side > 0 else xs[1], side * start, KERB_M, yaw))
    for x in np.arange(xs[0] + 1.5, xs[1], 4.0):
        for row, y in enumerate(np.arange(start + 1.5, SIDE_M, 5.0)):
            if random.random() < 0.8:
                tree = plants.tree(random, 0.8 if row == 0 else 0.3)
                street.stand(tree, x + random.normal(), side * (y + random.normal()), KERB_M)


def _house(
    street: Street, random: Random, side: int, xs: Span, front: float, style: SuburbStyle
) -> None:
    room = xs[1] - xs[0]
    gap = 0.0 if style.dense and random.random() < 0.7 else min(random.uniform(1.5, 7), room / 2)
    length, depth = room - gap, random.uniform(8, 12)
    if length < 4:
        return
    house = buildings.building(random, length, depth)
    middle = xs[0] + gap + length / 2
    # A house faces the road: on the left its front looks to -y, on the right it is turned round.
    yaw = 0.0 if side > 0 else np.pi
    local = pose(-length / 2, 0.0)
    turned = Mesh()
    turned.extend(house, local)
    street.stand(turned, middle, side * front, KERB_M, yaw)
    if gap > 3.5 and random.random() < 0.4:
        garage = Mesh()
        garage.extend(buildings.shed(random), pose(-1.5, 0))
        street.stand(garage, xs[0] + gap / 2, side * (front + 2), KERB_M, yaw)


def _driveway(
    street: Street, random: Random, side: int, x: float, width: float, style: SuburbStyle,
    front: float,
) -> None:  # fmt: skip
    mesh = Mesh()
    covers = (ground.PAVED_PARKING, ground.PARKING, ground.SIDEWALK, ground.CONCRETE)
    cover = covers[random.choice(4, p=[0.4, 0.2, 0.2, 0.2])]
    ys = (side * style.edge_y, side * (front + 3))
    ground.strip(mesh, cover, (x + 0.2, x + width), ys, ground.flat(KERB_M + 0.07))
    street.lay(mesh)
    if random.random() < 0.5 and front - style.edge_y > 4.5:
        y = side * (front - 2.0)
        yaw = np.pi / 2 * random.choice([-1, 1])
        street.stand(cars.car(random), x + width / 2, y, KERB_M + 0.07, yaw)


def _boundary(
    street: Street, random: Random, side: int, xs: Span, style: SuburbStyle, garden: float
) -> None:
    """Put a fence, a hedge or both along the front of a plot and between plots."""
    length, kind = xs[1] - xs[0] - random.uniform(0, 1.5), random.random()
    if garden < 1.0 or length < 2:
        return
    place = pose(xs[0], side * (style.edge_y + 0.35), KERB_M)
    if kind < 0.7:
        street.lay(furniture.fence(random, length), place)
    if kind > 0.25 and random.random() < style.green + 0.3:
        behind = pose(xs[0], side * (style.edge_y + 0.9), KERB_M)
        street.lay(plants.hedge(random, length, random.uniform(0.8, 2.4)), behind)
    if random.random() < 0.5:
        depth = max(garden - 0.5, 1.0)
        between = pose(xs[1], side * (style.edge_y + 0.4), KERB_M, side * np.pi / 2)
        line = furniture.fence(random, depth) if random.random() < 0.5 else None
        street.lay(line or plants.hedge(random, depth, random.uniform(0.8, 1.8)), between)


def _garden(
    street: Street, random: Random, side: int, xs: Span, style: SuburbStyle, front: float
) -> None:
    room = front - style.edge_y - 1.2
    if room < 0.8:
        return
    for _ in range(random.poisson(0.4 * style.green * (xs[1] - xs[0]) * min(room, 12) ** 0.7)):
        y = style.edge_y + 1.0 + random.random() * room
        small = random.random() < 0.72 or room < 2.5
        plant = plants.bush(random) if small else plants.tree(random, 0.7)
        street.stand(plant, random.uniform(*xs), side * y, KERB_M)


def _backyard(
    street: Street, random: Random, side: int, xs: Span, start: float, style: SuburbStyle
) -> None:
    """Close the view behind the houses with trees."""
    if random.random() < style.green:
        brush = plants.thicket(random, xs[1] - xs[0], 2.5, random.uniform(0.8, 2.2), 0.3)
        yaw = 0.0 if side > 0 else np.pi
        first = xs[0] if side > 0 else xs[1]
        street.lay(brush, pose(first, side * min(start, SIDE_M - 5), KERB_M, yaw))
    for x in np.arange(xs[0], xs[1], 5.0):
        for y in (start + random.uniform(0, 4), SIDE_M - random.uniform(0, 4)):
            if y < SIDE_M and random.random() < style.green:
                tall = random.uniform(5, 13)
                street.stand(plants.tree(random, 0.35, tall), x, side * y, KERB_M)


def _parked(street: Street, random: Random, side: int, xs: Span, style: SuburbStyle) -> None:
    on_walk = style.cars_on_walk and not style.parking_m and not style.verge_m
    on_walk = on_walk and not style.kerb_parking
    if not (style.parking_m or on_walk or style.kerb_parking):
        return
    y = style.kerb_y + (0.5 if on_walk else -1.05)
    z = 0.06 if on_walk else 0.0
    x = xs[0] + random.uniform(4, 8)
    while x < xs[1] - 5:
        if random.random() < style.parked_share:
            shares = np.array([share for share, _, _ in _PARKED])
            _, extra, builder = _PARKED[random.choice(len(shares), p=shares)]
            yaw = (0.0 if side < 0 else np.pi) + random.normal() * 0.03
            x += extra / 2
            place = street.on_road(x, side * (y + random.normal() * 0.1), z, yaw)
            street.static.extend(builder(random), place)
            x += extra / 2
        x += random.uniform(5.2, 7.5)


def _kerbside(street: Street, random: Random, side: int, xs: Span, style: SuburbStyle) -> None:
    """Put poles, signs, street trees, cycles and people on the sidewalk."""
    tree_y = style.kerb_y + (style.verge_m / 2 if style.verge_m else 0.6)
    back_y = style.edge_y - 0.35
    spacing = random.uniform(7, 13)
    for x in np.arange(xs[0] + 3, xs[1] - 2, spacing):
        if style.avenue and random.random() < 0.8:
            tree = plants.tree(random, 1.0, random.uniform(5, 12))
            street.stand(tree, x, side * tree_y, KERB_M)
            if random.random() < 0.4:
                street.stand(plants.bush(random, 0.5), x, side * tree_y, KERB_M)
    for x in np.arange(xs[0] + 2, xs[1] - 1, 5.0):
        _kerbside_thing(street, random, side, x + random.uniform(0, 3), style, back_y)


def _kerbside_thing(
    street: Street, random: Random, side: int, x: float, style: SuburbStyle, back_y: float
) -> None:
    draw, front_y = random.random(), style.kerb_y + 0.35
    lamp_yaw = 0.0 if side > 0 else np.pi
    if draw < 0.13:
        street.stand(furniture.pole(random), x, side * front_y, KERB_M, lamp_yaw)
    elif draw < 0.21:
        thing = furniture.sign(random) if random.random() < 0.8 else furniture.board(random)
        turn = 0.0 if side < 0 else np.pi
        street.stand(thing, x, side * front_y, KERB_M, turn + random.normal() * 0.2)
    elif draw < 0.27:
        cycle = vehicles.bicycle if random.random() < 0.6 else vehicles.motorcycle
        street.stand(cycle(random), x, side * back_y, KERB_M, random.uniform(0, np.pi))
    elif draw < 0.35:
        speed = float(random.choice([-1.3, 0.0, 1.3]))
        yaw = np.pi if speed < 0 else random.uniform(-3, 3) if speed == 0 else 0.0
        y = side * (style.walk_y + random.uniform(0.4, style.walk_m - 0.4))
        street.movers.append(Mover(vehicles.person(random), x, y, KERB_M, speed, yaw))
