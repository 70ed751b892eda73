"""Decide what a street looks like: kind of place, blocks, side streets, ends, traffic."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cigocc_ros.data.synthetic import cars, furniture, ground, plants, vehicles
from cigocc_ros.data.synthetic.country import country_side
from cigocc_ros.data.synthetic.mesh import Mesh
from cigocc_ros.data.synthetic.street import (
    AHEAD_M,
    BEHIND_M,
    EGO_SPEED_MPS,
    KERB_M,
    SIDE_M,
    Bend,
    Mover,
    Random,
    Street,
)
from cigocc_ros.data.synthetic.suburb import SuburbStyle, suburb_block

COUNTRY_SHARE = 0.2
PARKED_ROOM_M = 2.05
"""Width of road that cars parked at the kerb take."""
_VEHICLES: tuple[tuple[float, Callable[[Random], Mesh]], ...] = (
    (0.76, cars.car),
    (0.07, vehicles.truck),
    (0.06, vehicles.other_vehicle),
    (0.06, vehicles.bicyclist),
    (0.05, vehicles.motorcyclist),
)


def build_street(random: Random, length_m: float) -> Street:
    """Lay out a street for an ego drive of `length_m` along x."""
    street = Street(Bend.drawn(random), -BEHIND_M, length_m + AHEAD_M)
    country = random.random() < COUNTRY_SHARE
    wide = random.random() < 0.25
    half = random.uniform(5.5, 7.5) if wide else random.uniform(2.8, 4.2)
    kerb_parking = not country and random.random() < 0.5
    street.half_lanes_m = half
    street.half_road_m = half + (PARKED_ROOM_M if kerb_parking else 0.0)
    lane = 0.25 if wide and random.random() < 0.5 else 0.5
    street.lane_y = -lane * half + float(np.clip(random.normal() * 0.2, -0.25, 0.25))
    _carriageway(street, random)
    for side in (-1, 1):
        if country:
            country_side(street, random, side)
        else:
            _blocks(street, random, side)
    _end(street, random)
    _traffic(street, random)
    return street


def _carriageway(street: Street, random: Random) -> None:
    mesh, half = Mesh(), street.half_road_m
    xs, shade = (street.start_m, street.stop_m), random.uniform(0.75, 1.5)
    bays = half > street.half_lanes_m and random.random() < 0.5
    lanes = street.half_lanes_m if bays else half
    ground.strip(mesh, ground.ROAD, xs, (-lanes, lanes), ground.flat(0.0), shade)
    if bays:
        cover = ground.PARKING if random.random() < 0.6 else ground.PAVED_PARKING
        for side in (-1, 1):
            ground.strip(mesh, cover, xs, (side * lanes, side * half), ground.flat(0.0), shade)
    if random.random() < 0.55:
        ground.line(mesh, xs, 0.0, 3.0 if random.random() < 0.8 else None, 6.0)
        if half > 5:
            for y in (-half / 2, half / 2):
                ground.line(mesh, xs, y, 3.0, 9.0)
    if random.random() < 0.35:
        lanes = street.half_lanes_m
        for y in (-lanes + 0.3, lanes - 0.3):
            ground.line(mesh, xs, y, None, 12.0)
    street.lay(mesh)


def _blocks(street: Street, random: Random, side: int) -> None:
    """Fill one side of a town street with blocks of houses and side streets between them."""
    parking = street.half_road_m > street.half_lanes_m
    style = SuburbStyle.drawn(random, street.half_road_m, parking)
    x = street.start_m
    while x < street.stop_m:
        end = min(x + random.uniform(35, 110), street.stop_m)
        suburb_block(street, random, side, (x, end), style)
        if end >= street.stop_m:
            return
        width = random.uniform(5, 9)
        _side_street(street, random, side, (end, end + width))
        x = end + width


def _side_street(street: Street, random: Random, side: int, xs: tuple[float, float]) -> None:
    mesh, half = Mesh(), street.half_road_m
    ground.strip(mesh, ground.ROAD, xs, (side * half, side * SIDE_M), ground.flat(0.0))
    for x in xs:
        ground.kerb(mesh, (x, side * (half + 1)), (x, side * SIDE_M), KERB_M)
    if random.random() < 0.3:
        step = np.arange(-half + 0.3, half - 0.5, 1.0)
        ground.bars(mesh, [(xs[0] - 5, xs[0] - 2, y, y + 0.5) for y in step])
    street.lay(mesh)
    if random.random() < 0.6:
        x = (xs[0] + xs[1]) / 2 + random.choice([-1, 1]) * 0.22 * (xs[1] - xs[0])
        y = side * (half + random.uniform(4, 14))
        street.stand(cars.car(random), x, y, 0.0, np.pi / 2 * random.choice([-1, 1]))
    for x in (xs[0] - 0.6, xs[1] + 0.6):
        if random.random() < 0.5:
            street.stand(furniture.sign(random), x, side * (half + 0.6), KERB_M)
    backdrop = plants.tree(random, 0.3, random.uniform(8, 14))
    street.stand(backdrop, (xs[0] + xs[1]) / 2, side * (SIDE_M + 1), 0.0)


def _end(street: Street, random: Random) -> None:
    """Close the view at the far end with trees."""
    for y in np.arange(-SIDE_M, SIDE_M, 5.0):
        if abs(y) > street.half_road_m or random.random() < 0.5:
            tree = plants.tree(random, 0.3, random.uniform(7, 14))
            street.stand(tree, street.stop_m + random.uniform(-4, 2), y)
    strip = Mesh()
    beyond = (street.stop_m, street.stop_m + 150.0)
    ground.strip(strip, ground.LAWN, beyond, (-90.0, 90.0), ground.flat(-0.1), 1.0, 30.0)
    street.lay(strip)


def _traffic(street: Street, random: Random) -> None:
    """Add oncoming, preceding and crossing traffic; nothing drives through the ego vehicle."""
    busy, half = random.random(), street.half_lanes_m
    for x in np.arange(street.start_m, street.stop_m * 1.6, 13.0):
        if random.random() < 0.5 * busy:
            mesh, y = _vehicle(random), half * random.uniform(0.4, 0.6)
            street.movers.append(
                Mover(mesh, x + random.uniform(0, 6), y, 0.0, -random.uniform(4, 12), np.pi)
            )
    if random.random() < 0.55:
        ahead = random.uniform(9, 45)
        street.movers.append(Mover(_vehicle(random), ahead, street.lane_y, 0.0, EGO_SPEED_MPS))
    if random.random() < 0.25:
        person = vehicles.person(random)
        x, y = random.uniform(0, street.stop_m), random.uniform(street.lane_y + 1.4, half)
        street.movers.append(Mover(person, x, y, 0.0, 0.0, 1.5))


def _vehicle(random: Random) -> Mesh:
    shares = np.array([share for share, _ in _VEHICLES])
    builder = _VEHICLES[random.choice(len(shares), p=shares / shares.sum())][1]
    return builder(random)
