"""One side of a country road: verge, bank, bushes, woods and meadows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cigocc_ros.core.arrays import Floats
from cigocc_ros.data.synthetic import buildings, furniture, ground, plants
from cigocc_ros.data.synthetic.mesh import Mesh, pose
from cigocc_ros.data.synthetic.street import KERB_M, SIDE_M, Random, Street


def country_side(street: Street, random: Random, side: int) -> None:
    """Fill one side (+1 left, -1 right) of the whole street."""
    xs, half = (street.start_m, street.stop_m), street.half_road_m
    edge = half
    if random.random() < 0.3:
        edge = _path(street, random, side, half)
    near = edge + random.uniform(0.6, 2.6)
    rise = random.uniform(-0.6, 2.2) if random.random() < 0.6 else random.uniform(-0.1, 0.3)

    def bank(x: Floats, y: Floats) -> Floats:
        share = np.clip((np.abs(y) - near) / 7.0, 0, 1)
        smooth: Floats = rise * share * share * (3 - 2 * share) + 0 * x
        return smooth

    height = ground.rolling(random, 0.0, 0.12, bank)
    cover = (ground.LAWN, ground.DRY_GRASS, ground.EARTH)[random.choice(3, p=[0.6, 0.3, 0.1])]
    mesh, shade = Mesh(), random.uniform(0.7, 1.3)
    ground.strip(mesh, cover, xs, (side * edge, side * near), height, shade)
    far_cover = cover if random.random() < 0.6 else ground.DRY_GRASS
    ground.strip(mesh, far_cover, xs, (side * near, side * SIDE_M), height, shade, 2.0)
    street.lay(mesh)
    _edge_furniture(street, random, side, edge)

    def floor(x: float, y: float) -> float:
        return float(height(np.array(x), np.array(y)))

    _greenery(street, random, side, near, floor)
    if random.random() < 0.4:
        _farm(street, random, side, near, rise)


def _path(street: Street, random: Random, side: int, half: float) -> float:
    """Lay a foot or cycle path beside the road; return its outer edge."""
    mesh, edge = Mesh(), half + random.uniform(1.6, 3.0)
    xs = (street.start_m, street.stop_m)
    ground.strip(mesh, ground.TARRED_SIDEWALK, xs, (side * half, side * edge), ground.flat(KERB_M))
    ground.kerb(mesh, (xs[0], side * half), (xs[1], side * half), KERB_M)
    street.lay(mesh)
    return edge


def _edge_furniture(street: Street, random: Random, side: int, edge: float) -> None:
    xs, draw = (street.start_m, street.stop_m), random.random()
    if draw < 0.3:
        rail = furniture.guard_rail(xs[1] - xs[0])
        street.lay(rail, pose(xs[0], side * (edge + 0.5)))
    elif draw < 0.5:
        for x in np.arange(xs[0], xs[1], 20.0):
            street.lay(furniture.fence(random, 20.0), pose(x, side * (edge + 1.2)))
    for x in np.arange(xs[0], xs[1], 12.0):
        if random.random() < 0.3:
            pole = furniture.pole(random) if random.random() < 0.7 else furniture.sign(random)
            yaw = 0.0 if side > 0 else np.pi
            street.stand(pole, x, side * (edge + 0.9), 0.0, yaw)
        elif random.random() < 0.06:
            street.stand(furniture.board(random), x, side * (edge + 1.5), 0.0)


def _greenery(
    street: Street, random: Random, side: int, near: float, floor: Callable[[float, float], float]
) -> None:
    """Grow bushes and trees: from a lonely row to a closed wood, in patches along the road."""
    x = street.start_m
    while x < street.stop_m:
        patch_end, kind = x + random.uniform(15, 50), random.random()
        wood = kind < 0.72
        start = near + (random.uniform(0.3, 2.2) if wood else random.uniform(1, 14))
        if wood and random.random() < 0.75:
            _undergrowth(street, random, side, (x, min(patch_end, street.stop_m)), start, floor)
        density = random.uniform(0.65, 1.0) if wood else random.uniform(0.05, 0.4)
        while x < patch_end:
            for row, y in enumerate(np.arange(start, SIDE_M, 4.5)):
                if random.random() > density:
                    continue
                detail = 1.0 if row == 0 else 0.55 if row < 3 else 0.25
                bushy = random.random() < (0.75 if row == 0 else 0.45)
                px, py = x + random.normal(), side * (y + random.normal() * 0.6)
                plant = (
                    plants.bush(random, random.uniform(0.5, 2.2), detail)
                    if bushy
                    else plants.tree(random, detail)
                )
                street.stand(plant, px, py, floor(px, py))
            x += random.uniform(2.5, 4.5) if wood else random.uniform(3, 9)


def _undergrowth(
    street: Street, random: Random, side: int, xs: tuple[float, float], start: float,
    floor: Callable[[float, float], float],
) -> None:  # fmt: skip
    """Close the edge of a wood with a thicket, piece by piece along the bank."""
    height = random.uniform(0.5, 2.0)
    for x in np.arange(xs[0], xs[1], 4.0):
        piece = plants.thicket(random, 4.0, random.uniform(1.5, 4.0), height)
        y = side * (start - 0.4)
        place = pose(x if side > 0 else x + 4.0, y, floor(x + 2.0, y), 0.0 if side > 0 else np.pi)
        street.lay(piece, place)


def _farm(street: Street, random: Random, side: int, near: float, rise: float) -> None:
    x = random.uniform(street.start_m + 20, street.stop_m - 20)
    y = near + random.uniform(8, 22)
    house = buildings.building(random, random.uniform(9, 20), random.uniform(8, 12))
    street.stand(house, x, side * y, rise, 0.0 if side > 0 else np.pi)
