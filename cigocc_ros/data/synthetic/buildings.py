"""Houses: walls with windows, doors, balconies and roofs. Front at y = 0, body towards +y."""

from __future__ import annotations

import numpy as np

from cigocc_ros.core.arrays import Floats
from cigocc_ros.data.synthetic.mesh import (
    BRICK,
    GLASS,
    PLAIN,
    ROOF,
    WALL,
    Mesh,
    box,
    extruded,
    pose,
    quads,
)
from cigocc_ros.data.synthetic.vehicles import class_id

_PLASTER = np.array(
    [
        [0.62, 0.58, 0.5], [0.72, 0.71, 0.68], [0.75, 0.74, 0.72], [0.55, 0.45, 0.33],
        [0.6, 0.5, 0.33], [0.45, 0.45, 0.43], [0.66, 0.56, 0.45], [0.68, 0.66, 0.58],
    ]
)  # fmt: skip
_BRICKS = np.array([[0.3, 0.13, 0.09], [0.36, 0.22, 0.15], [0.25, 0.2, 0.17]])
_ROOFS = np.array([[0.3, 0.11, 0.06], [0.2, 0.1, 0.07], [0.1, 0.1, 0.11], [0.16, 0.14, 0.13]])
_FRAMES = np.array([[0.7, 0.7, 0.68], [0.25, 0.16, 0.1], [0.5, 0.5, 0.5]])
_PANE = np.array([0.035, 0.045, 0.055])
_FOOTING_M = 1.5
_PANE_OFFSET_M, _FRAME_OFFSET_M = 0.035, 0.02


def building(random: np.random.Generator, length: float, depth: float) -> Mesh:
    """Return a house of `length` along x and `depth` along +y, its front at y = 0."""
    mesh, label = Mesh(), class_id('building')
    storeys = random.choice([1, 2, 2, 2, 3, 3, 4])
    height = 0.4 + storeys * random.uniform(2.6, 3.0)
    brick = random.random() < 0.2
    wall = random.choice(_BRICKS if brick else _PLASTER) * random.uniform(0.75, 1.15)
    body = box((0, 0, -_FOOTING_M), (length, depth, height))
    mesh.add(body, label, BRICK if brick else WALL, wall)
    _base_band(mesh, random, length, depth, wall)
    _roof(mesh, random, length, depth, height)
    style = _WindowStyle(random, height, storeys)
    for place, width in _facades(length, depth):
        if random.random() < 0.9:
            style.add(mesh, random, place, width)
    if storeys > 1 and random.random() < 0.3:
        _balconies(mesh, random, length, height / storeys, storeys, wall)
    if random.random() < 0.35:
        start = random.uniform(0, max(length - 3.5, 0.1))
        porch = (start + random.uniform(2, 3.4), 0.1, random.uniform(2.2, 3.2))
        low = (start, -random.uniform(0.4, 1.6), -_FOOTING_M)
        mesh.add(box(low, porch), label, BRICK if brick else WALL, wall * 0.92)
    return mesh


def shed(random: np.random.Generator) -> Mesh:
    """Return a garage or a garden shed."""
    mesh, label = Mesh(), class_id('building')
    width, depth, height = random.uniform(2.6, 6), random.uniform(3, 6), random.uniform(2.2, 2.8)
    wall = random.choice(_PLASTER) * random.uniform(0.6, 1.1)
    mesh.add(box((0, 0, -_FOOTING_M), (width, depth, height)), label, WALL, wall)
    mesh.add(
        box((-0.2, -0.3, height), (width + 0.2, depth, height + 0.15)), label, ROOF, wall * 0.5
    )
    door = _rectangles(np.array([[0.3, width - 0.3, 0.0, 2.0]]), _FRAME_OFFSET_M)
    mesh.add(quads(door), label, PLAIN, random.uniform(0.15, 0.6, 3).mean() * np.ones(3))
    return mesh


class _WindowStyle:
    """Windows of one house: one size, one spacing, one frame colour on all walls."""

    def __init__(self, random: np.random.Generator, height: float, storeys: int) -> None:
        self.storeys, self.rise = storeys, (height - 0.4) / storeys
        self.spacing = random.uniform(1.8, 3.8)
        self.size = np.array([random.uniform(0.7, 1.7), random.uniform(0.9, 1.6)])
        self.size[0] = min(self.size[0], 0.75 * self.spacing)
        self.frame = random.choice(_FRAMES)
        self.shutters = random.random() < 0.3
        self.shutter = random.uniform(0.05, 0.4, 3)

    def add(self, mesh: Mesh, random: np.random.Generator, place: Floats, width: float) -> None:
        """Fill the wall z = 0.., x = 0..width of the frame `place` with windows and a door."""
        columns = int((width - 0.6) / self.spacing)
        if columns < 1:
            return
        left = 0.5 * (width - (columns - 1) * self.spacing) + self.spacing * np.arange(columns)
        below = 0.4 + self.rise * np.arange(self.storeys) + 0.32 * self.rise
        x, z = (a.ravel() for a in np.meshgrid(left, below))
        kept = random.random(len(x)) < 0.9
        x, z = x[kept], z[kept]
        pane = np.column_stack([x - self.size[0] / 2, x + self.size[0] / 2, z, z + self.size[1]])
        if len(pane) and random.random() < 0.6:
            pane[random.integers(len(pane)), 2:] = 0.1, 2.1
        self._emit(mesh, place, pane + [-0.1, 0.1, -0.1, 0.1], _FRAME_OFFSET_M, PLAIN, self.frame)
        middle = pane[:, :2].mean(axis=1)
        for a, b in ((pane[:, 0], middle - 0.04), (middle + 0.04, pane[:, 1])):
            panes = np.column_stack([a, b, pane[:, 2:]])
            self._emit(mesh, place, panes, _PANE_OFFSET_M, GLASS, _PANE)
        if self.shutters:
            for edge, outer in ((pane[:, 0] - 0.1, -0.45), (pane[:, 1] + 0.1, 0.45)):
                x0, x1 = np.minimum(edge, edge + outer), np.maximum(edge, edge + outer)
                flaps = np.column_stack([x0, x1, pane[:, 2:]])
                self._emit(mesh, place, flaps, _PANE_OFFSET_M, PLAIN, self.shutter)

    def _emit(
        self,
        mesh: Mesh,
        place: Floats,
        rects: Floats,
        lift: float,
        surface: int,
        colour: Floats,
    ) -> None:
        corners = _rectangles(rects, lift) @ place[:3, :3].T + place[:3, 3]
        mesh.add(quads(corners), class_id('building'), surface, colour)


def _rectangles(rects: Floats, lift: float) -> Floats:
    """Return wall rectangles (N, 4) of x0, x1, z0, z1 as quads (N, 4, 3) `lift` before y = 0."""
    x0, x1, z0, z1 = rects.T
    y = np.full(len(rects), -lift)
    corners = [(x0, z0), (x1, z0), (x1, z1), (x0, z1)]
    return np.stack([np.stack([x, y, z], axis=-1) for x, z in corners], axis=1)


def _facades(length: float, depth: float) -> list[tuple[Floats, float]]:
    """Return the frames of front, left and right wall, whose -y points outwards, and widths."""
    return [
        (np.eye(4), length),
        (pose(length, 0.0, 0.0, np.pi / 2), depth),
        (pose(0.0, depth, 0.0, -np.pi / 2), depth),
    ]


def _base_band(
    mesh: Mesh, random: np.random.Generator, length: float, depth: float, wall: Floats
) -> None:
    if random.random() < 0.5:
        band = box((-0.03, -0.03, -_FOOTING_M), (length + 0.03, depth, random.uniform(0.3, 0.9)))
        mesh.add(band, class_id('building'), WALL, wall * random.uniform(0.4, 0.8))


def _roof(
    mesh: Mesh, random: np.random.Generator, length: float, depth: float, height: float
) -> None:
    label, colour = class_id('building'), random.choice(_ROOFS) * random.uniform(0.7, 1.4)
    draw, eaves = random.random(), random.uniform(0.15, 0.6)
    if draw < 0.2:
        rim = box((-0.15, -0.15, height), (length + 0.15, depth + 0.15, height + 0.3))
        mesh.add(rim, label, ROOF, colour)
        return
    rise = random.uniform(0.3, 0.5) * depth
    gable_to_street = draw < 0.45
    across = length if gable_to_street else depth
    along = depth if gable_to_street else length
    rise = rise if not gable_to_street else min(rise * across / depth, 4.5)
    slope = 2 * rise / across
    outline = [(-eaves, height - eaves * slope), (across / 2, height + rise)]
    outline += [(across + eaves, height - eaves * slope)]
    gable = extruded([(0, height), (across, height), (across / 2, height + rise)], along, along)
    slabs = []
    for (a, za), (b, zb) in ((outline[0], outline[1]), (outline[1], outline[2])):
        half = along / 2 + eaves
        slabs.append([(a, -half, za), (b, -half, zb), (b, half, zb), (a, half, za)])
    slab = quads(np.array(slabs) + [0, 0, 0.12])
    turn = pose(0, along / 2) if gable_to_street is False else None
    for part, surface, paint in ((gable, WALL, colour * 1.8), (slab, ROOF, colour)):
        if turn is None:
            moved_part = part + [0, along / 2, 0]
        else:
            moved_part = part[..., [1, 0, 2]] + [along / 2, 0, 0]
        mesh.add(moved_part, label, surface, paint)
    if random.random() < 0.6:
        x, y = random.uniform(0.2, 0.8) * length, random.uniform(0.3, 0.7) * depth
        chimney = box((x, y, height), (x + 0.7, y + 0.6, height + rise + random.uniform(0.1, 0.8)))
        mesh.add(chimney, label, BRICK, _BRICKS[0])


def _balconies(
    mesh: Mesh,
    random: np.random.Generator,
    length: float,
    rise: float,
    storeys: int,
    wall: Floats,
) -> None:
    width = random.uniform(2, 4)
    if length < width + 1:
        return
    start, out = random.uniform(0.5, length - width), random.uniform(0.9, 1.5)
    shade = random.uniform(0.4, 1.1)
    for level in range(1, storeys):
        low = 0.4 + level * rise
        slab = box((start, -out, low - 0.15), (start + width, 0, low))
        rail = box((start, -out, low), (start + width, -out + 0.06, low + 0.95))
        mesh.add(np.concatenate([slab, rail]), class_id('building'), PLAIN, wall * shade)
