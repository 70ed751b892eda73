"""Passenger cars: hatchbacks, saloons, estates and vans with panes, pillars and wheel arches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cigocc_ros.core.arrays import Floats
from cigocc_ros.data.synthetic.mesh import PAINT, PLAIN, Mesh, box, extruded, quads
from cigocc_ros.data.synthetic.vehicles import RUBBER, class_id, wheels

_PAINTS = np.array(
    [
        [0.5, 0.51, 0.53], [0.34, 0.35, 0.37], [0.02, 0.02, 0.022], [0.04, 0.04, 0.045],
        [0.75, 0.75, 0.74], [0.12, 0.125, 0.13], [0.03, 0.05, 0.15], [0.06, 0.1, 0.22],
        [0.28, 0.02, 0.02], [0.04, 0.09, 0.06], [0.2, 0.17, 0.13], [0.1, 0.02, 0.03],
    ]
)  # fmt: skip
_PANE = (0.014, 0.016, 0.018)
_LAMP, _TAIL, _PLATE = (0.65, 0.66, 0.66), (0.33, 0.015, 0.015), (0.7, 0.7, 0.68)
_PANE_LIFT_M = 0.012


@dataclass(frozen=True)
class _Cabin:
    """Side outline of the glasshouse: belt and roof line, each from rear to front, and widths."""

    belt: tuple[float, float]
    roof: tuple[float, float]
    low_m: float
    high_m: float
    width_low: float
    width_high: float

    def at(self, along: float, up: float, side: float) -> tuple[float, float, float]:
        """Return a point of the outline: shares along (0 rear) and up (0 belt), side -1..1."""
        rear = self.belt[0] + (self.roof[0] - self.belt[0]) * up
        front = self.belt[1] + (self.roof[1] - self.belt[1]) * up
        half = 0.5 * (self.width_low + (self.width_high - self.width_low) * up)
        x, z = rear + (front - rear) * along, self.low_m + (self.high_m - self.low_m) * up
        return x, side * half, z


def car(random: np.random.Generator) -> Mesh:
    """Return a car of random size, shape and paint, x forward, standing on z = 0."""
    van = random.random() < 0.1
    length = random.uniform(4.2, 5.2) if van else random.uniform(3.5, 4.8)
    width = random.uniform(1.65, 1.85) + 0.1 * van
    height = random.uniform(1.75, 2.1) if van else random.uniform(1.38, 1.62)
    belt = random.uniform(0.86, 0.97) + 0.12 * van
    rear, front = -0.5 * length, 0.5 * length
    paint = random.choice(_PAINTS) * random.uniform(0.75, 1.25)
    mesh = Mesh()
    _body(mesh, (rear, front), belt, width, paint, random.uniform(0.82, 0.95))
    hood = 0.75 if van else random.uniform(0.95, 1.25)
    hatch = van or random.random() < 0.65
    boot = random.uniform(0.02, 0.12) if hatch else random.uniform(0.5, 0.9)
    lean = random.uniform(0.15, 0.35) if hatch else random.uniform(0.5, 0.8)
    pane = random.uniform(0.6, 0.85)
    cabin = _Cabin(
        (rear + boot, front - hood), (rear + boot + lean, front - hood - pane),
        belt, height, width * 0.95, width * random.uniform(0.7, 0.8),
    )  # fmt: skip
    outline = [cabin.at(0, 0, 0), cabin.at(1, 0, 0), cabin.at(0.97, 0.92, 0), cabin.at(0.86, 1, 0)]
    outline += [cabin.at(0.14, 1, 0), cabin.at(0.03, 0.92, 0)]
    house = extruded([(x, z) for x, _, z in outline], cabin.width_low, cabin.width_high)
    mesh.add(house, class_id('car'), PAINT, paint)
    _panes(mesh, cabin, paint)
    _lights(mesh, rear, front, 0.5 * width, belt)
    axles = (rear + random.uniform(0.65, 0.85), front - random.uniform(0.75, 0.9))
    _arches(mesh, axles, 0.5 * width)
    wheels(mesh, class_id('car'), axles, 0.5 * width + 0.05, 0.31)
    return mesh


def _body(
    mesh: Mesh,
    xs: tuple[float, float],
    belt: float,
    width: float,
    paint: Floats,
    nose: float,
) -> None:
    """Add the lower body in two convex parts: narrow sills, then wings that close in upwards."""
    (rear, front), label = xs, class_id('car')
    waist = 0.58
    low = [(rear + 0.08, 0.2), (front - 0.1, 0.2), (front, 0.42), (front - 0.03, waist)]
    low += [(rear, waist), (rear - 0.01, 0.42)]
    high = [(rear, waist), (front - 0.03, waist), (front - 0.16, waist + 0.14)]
    high += [(front - 1.15, belt * nose + 0.05), (front - 1.3, belt), (rear + 0.12, belt)]
    high += [(rear + 0.03, belt - 0.12)]
    mesh.add(extruded(low, width * 0.93, width), label, PAINT, paint)
    mesh.add(extruded(high, width, width * 0.94), label, PAINT, paint)
    bumper = box((rear - 0.04, -0.47 * width, 0.22), (rear + 0.1, 0.47 * width, 0.5))
    other = box((front - 0.12, -0.47 * width, 0.2), (front + 0.02, 0.47 * width, 0.46))
    mesh.add(np.concatenate([bumper, other]), label, PAINT, paint * 0.8)
    grill = box((front, -0.3 * width, 0.28), (front + 0.03, 0.3 * width, 0.4))
    mesh.add(grill, label, PLAIN, RUBBER)


def _panes(mesh: Mesh, cabin: _Cabin, paint: Floats) -> None:
    """Lay dark panes over the glasshouse; pillars and roof keep the colour of the body."""
    label, panes = class_id('car'), []
    for side in (-1.0, 1.0):
        for a, b in ((0.06, 0.28), (0.31, 0.57), (0.6, 0.93)):
            panes.append([cabin.at(a, 0.06, side), cabin.at(b, 0.06, side)])
            panes[-1] += [cabin.at(b, 0.86, side), cabin.at(a, 0.86, side)]
            panes[-1] = [(x, y + side * _PANE_LIFT_M, z) for x, y, z in panes[-1]]
    for along, out in ((0.0, -1.0), (1.0, 1.0)):
        corners = [cabin.at(along, up, s * 0.86) for up, s in ((0.05, -1), (0.05, 1))]
        corners += [cabin.at(along, up, s * 0.86) for up, s in ((0.84, 1), (0.84, -1))]
        panes.append([(x + out * 0.03, y, z) for x, y, z in corners])
    mesh.add(quads(np.array(panes)), label, PAINT, _PANE)
    mirror = cabin.at(0.88, 0.12, 1.0)
    for y in (-mirror[1] - 0.08, mirror[1] + 0.08):
        low = np.array([mirror[0] - 0.05, y - 0.07, mirror[2]])
        mesh.add(box(low, low + [0.1, 0.14, 0.13]), label, PAINT, paint * 0.7)


def _lights(mesh: Mesh, rear: float, front: float, half: float, belt: float) -> None:
    label = class_id('car')
    for side in (-1, 1):
        y = side * (half - 0.2)
        lamp = box((front - 0.2, y - 0.17, 0.54), (front - 0.01, y + 0.17, 0.68))
        mesh.add(lamp, label, PAINT, _LAMP)
        tail = box((rear - 0.015, y - 0.13, belt - 0.28), (rear + 0.06, y + 0.16, belt - 0.06))
        mesh.add(tail, label, PAINT, _TAIL)
    for x in (rear - 0.05, front + 0.03):
        plate = box((x - 0.01, -0.26, 0.38), (x + 0.01, 0.26, 0.49))
        mesh.add(plate, label, PAINT, _PLATE)


def _arches(mesh: Mesh, axles: tuple[float, float], half: float, radius: float = 0.37) -> None:
    """Darken half discs around the wheels."""
    angle = np.linspace(0, np.pi, 8)
    rim = np.column_stack([radius * np.cos(angle), 0 * angle, 0.3 + radius * np.sin(angle)])
    fan = np.array([[rim[0], rim[i], rim[i + 1]] for i in range(1, 7)])
    for x in axles:
        for side in (-1, 1):
            disc = fan + [x, side * (half + 0.008), 0]
            mesh.add(disc, class_id('car'), PLAIN, np.array(RUBBER) * 0.4)
