"""Trucks, buses, cycles, people: local meshes with x forward, standing on z = 0."""

from __future__ import annotations

import numpy as np

from cigocc_ros.core.labels import CLASS_NAMES
from cigocc_ros.data.synthetic.mesh import (
    BARK,
    PAINT,
    PLAIN,
    Mesh,
    blob,
    box,
    cylinder,
    extruded,
    moved,
    pose,
)

GLASS, RUBBER, STEEL = (0.02, 0.023, 0.027), (0.02, 0.02, 0.02), (0.35, 0.36, 0.38)
_LYING = np.array([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
_PAINTS = np.array(
    [
        [0.75, 0.76, 0.78], [0.5, 0.52, 0.55], [0.06, 0.06, 0.07], [0.85, 0.85, 0.84],
        [0.35, 0.05, 0.05], [0.08, 0.12, 0.3], [0.12, 0.2, 0.14], [0.25, 0.26, 0.28],
    ]
)  # fmt: skip


def class_id(name: str) -> int:
    """Return the train id of a class name."""
    return CLASS_NAMES.index(name)


def truck(random: np.random.Generator) -> Mesh:
    """Return a lorry or a van with a cab and a load box."""
    length, width, height = (
        random.uniform(5.5, 9),
        random.uniform(2.0, 2.5),
        random.uniform(2.4, 3.4),
    )
    mesh, label = Mesh(), class_id('truck')
    half = 0.5 * width
    load = box((-0.5 * length, -half, 0.7), (0.5 * length - 2.0, half, height))
    mesh.add(load, label, PAINT, random.choice(_PAINTS))
    cab = [(0, 0.4), (1.8, 0.4), (1.8, 1.3), (1.4, 2.2), (0, 2.2)]
    cab_mesh = extruded(cab, width * 0.95, width * 0.85)
    mesh.add(moved(cab_mesh, pose(0.5 * length - 1.9, 0)), label, PAINT, random.choice(_PAINTS))
    window = box((0.5 * length - 0.35, -0.4 * width, 1.4), (0.5 * length - 0.1, 0.4 * width, 2.0))
    mesh.add(window, label, PAINT, GLASS)
    wheels(mesh, label, (-0.3 * length, 0.5 * length - 1.2), half, 0.45)
    return mesh


def other_vehicle(random: np.random.Generator) -> Mesh:
    """Return a bus or a trailer."""
    mesh, label = Mesh(), class_id('other-vehicle')
    bus = random.random() < 0.6
    length, width, height = (
        (random.uniform(8, 11), 2.5, 3.0) if bus else (random.uniform(2.5, 5), 2.0, 2.3)
    )
    half = 0.5 * width
    paint = random.choice(_PAINTS)
    mesh.add(box((-length / 2, -half, 0.5), (length / 2, half, height)), label, PAINT, paint)
    if bus:
        for side in (-1, 1):
            pane = box(
                (-0.46 * length, side * half - 0.02, 1.4), (0.46 * length, side * half + 0.02, 2.4)
            )
            mesh.add(pane, label, PAINT, GLASS)
    wheels(mesh, label, (-0.3 * length, 0.3 * length), half, 0.45 if bus else 0.33)
    return mesh


def person(random: np.random.Generator) -> Mesh:
    """Return a standing or walking person."""
    mesh = Mesh()
    _body(mesh, class_id('person'), random, seat=0.0)
    return mesh


def bicycle(random: np.random.Generator) -> Mesh:
    """Return a parked bicycle."""
    mesh = Mesh()
    _cycle(mesh, class_id('bicycle'), random, 0.34, 0.05, motor=False)
    return mesh


def motorcycle(random: np.random.Generator) -> Mesh:
    """Return a parked motorcycle."""
    mesh = Mesh()
    _cycle(mesh, class_id('motorcycle'), random, 0.3, 0.16, motor=True)
    return mesh


def bicyclist(random: np.random.Generator) -> Mesh:
    """Return a person riding a bicycle (one class, rider and cycle together)."""
    mesh, label = Mesh(), class_id('bicyclist')
    _cycle(mesh, label, random, 0.34, 0.05, motor=False)
    _body(mesh, label, random, seat=0.35)
    return mesh


def motorcyclist(random: np.random.Generator) -> Mesh:
    """Return a person riding a motorcycle."""
    mesh, label = Mesh(), class_id('motorcyclist')
    _cycle(mesh, label, random, 0.3, 0.16, motor=True)
    _body(mesh, label, random, seat=0.25)
    return mesh


def wheels(mesh: Mesh, label: int, axles: tuple[float, float], half: float, radius: float) -> None:
    """Add four wheels, their outer faces 0.02 m outside `half`."""
    for x in axles:
        for side in (-1, 1):
            wheel = moved(cylinder(radius, -0.1, 0.1), _LYING)
            mesh.add(wheel + [x, side * (half - 0.08), radius], label, PAINT, RUBBER)


def _cycle(
    mesh: Mesh, label: int, random: np.random.Generator, radius: float, thick: float, motor: bool
) -> None:
    for x in (-0.55, 0.55):
        wheel = moved(cylinder(radius, -0.5 * thick, 0.5 * thick), _LYING)
        mesh.add(wheel + [x, 0, radius], label, PAINT, RUBBER)
    paint = random.uniform(0.05, 0.6, 3)
    body = (
        box((-0.5, -0.12, 0.35), (0.4, 0.12, 0.8))
        if motor
        else box((-0.5, -0.03, 0.5), (0.45, 0.03, 0.85))
    )
    mesh.add(body, label, PAINT, paint)
    mesh.add(box((0.4, -0.3, 0.95), (0.46, 0.3, 1.0)), label, PAINT, STEEL)
    mesh.add(box((-0.45, -0.08, 0.85), (-0.15, 0.08, 0.92)), label, BARK, RUBBER)


def _body(mesh: Mesh, label: int, random: np.random.Generator, seat: float) -> None:
    """Add a person; `seat` lifts the body and bends it forward for riders."""
    scale = random.uniform(0.9, 1.08)
    trousers, shirt = random.uniform(0.03, 0.35, 3), random.uniform(0.05, 0.8, 3)
    stride = random.uniform(0.05, 0.2)
    for side in (-1, 1):
        leg = cylinder(0.09, 0.0, 0.85 * scale)
        mesh.add(leg + [side * stride, side * 0.1, seat], label, PLAIN, trousers)
        arm = cylinder(0.06, 0.8 * scale, 1.4 * scale)
        mesh.add(arm + [seat * 0.8 + side * 0.05, side * 0.27, seat], label, PLAIN, shirt)
    torso = blob((0.16, 0.23, 0.36 * scale), 0.02, random, 1)
    mesh.add(torso + [seat * 0.3, 0, 1.12 * scale + seat], label, PLAIN, shirt)
    head = blob((0.11, 0.1, 0.14), 0.02, random, 1)
    mesh.add(head + [seat * 0.5, 0, 1.6 * scale + seat], label, PLAIN, (0.6, 0.42, 0.33))
