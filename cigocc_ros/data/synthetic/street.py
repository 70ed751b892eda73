"""One street: its bends and hills, what stands on it and what moves, from a seed."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from cigocc_ros.core.arrays import Floats
from cigocc_ros.data.synthetic.mesh import Mesh, pose

Random = np.random.Generator
BEHIND_M, AHEAD_M = 25.0, 110.0
"""The street reaches this far before the first and beyond the last frame."""
SIDE_M = 46.0
KERB_M = 0.13
EGO_SPEED_MPS = 10.0
"""Ego speed that movers' times refer to: the frame at x metres is seen at x / speed seconds."""


@dataclass(frozen=True)
class Mover:
    """Something that moves along x: its mesh, start, speed and heading."""

    mesh: Mesh
    x: float
    y: float
    z: float
    speed_mps: float
    yaw: float = 0.0


@dataclass(frozen=True)
class Bend:
    """Turns the straight layout into a curved and hilly road: y += bend(x), z += hill(x)."""

    swing_m: float
    swing_length_m: float
    swing_phase: float
    hill_m: float
    hill_length_m: float
    hill_phase: float

    @classmethod
    def drawn(cls, random: Random) -> Bend:
        """Draw a road: mostly straight, at most 14 degrees off the x axis."""
        length, hill_length = random.uniform(110, 300), random.uniform(120, 300)
        angle = np.clip(random.normal() * 0.09, -0.25, 0.25)
        slope = np.clip(random.normal() * 0.018, -0.05, 0.05)
        return cls(
            angle * length / (2 * np.pi), length, random.uniform(0, 2 * np.pi),
            slope * hill_length / (2 * np.pi), hill_length, random.uniform(0, 2 * np.pi),
        )  # fmt: skip

    def lift(self, x: Floats) -> Floats:
        """Return the displacement (..., 3) of layout points at x."""
        swing = self.swing_m * np.sin(2 * np.pi * x / self.swing_length_m + self.swing_phase)
        hill = self.hill_m * np.sin(2 * np.pi * x / self.hill_length_m + self.hill_phase)
        return np.stack([np.zeros_like(x), swing, hill], axis=-1)

    def attitude(self, x: float) -> tuple[float, float]:
        """Return yaw and pitch of the road at x, radians."""
        ahead, behind = self.lift(np.array(x + 0.5)), self.lift(np.array(x - 0.5))
        return float(np.arctan(ahead[1] - behind[1])), float(-np.arctan(ahead[2] - behind[2]))


@dataclass
class Street:
    """The static mesh in the world, the movers in layout coordinates, and the road between."""

    bend: Bend
    start_m: float
    stop_m: float
    half_road_m: float = 3.5
    half_lanes_m: float = 3.5
    """Without the room for cars parked at the kerb."""
    lane_y: float = -1.7
    static: Mesh = field(default_factory=Mesh)
    movers: list[Mover] = field(default_factory=list)

    def lay(self, mesh: Mesh, transform: Floats | None = None) -> None:
        """Add something that follows the road, such as ground, fences and hedges."""
        placed = Mesh()
        placed.extend(mesh, transform)
        placed.triangles = [t + self.bend.lift(t[..., 0]) for t in placed.triangles]
        placed.volume = [p + self.bend.lift(p[..., 0]) for p in placed.volume]
        self.static.extend(placed)

    def stand(self, mesh: Mesh, x: float, y: float, z: float = 0.0, yaw: float = 0.0) -> None:
        """Add something rigid and upright, turned with the road."""
        self.static.extend(mesh, self.upright(x, y, z, yaw))

    def upright(self, x: float, y: float, z: float, yaw: float) -> Floats:
        """Return the world pose (4, 4) of an upright thing at layout (x, y, z)."""
        lift = self.bend.lift(np.array(x))
        turn, _ = self.bend.attitude(x)
        return pose(x, y + lift[1], z + lift[2], yaw + turn)

    def on_road(self, x: float, y: float, z: float, yaw: float) -> Floats:
        """Return the world pose (4, 4) of a vehicle, tilted with the road."""
        turn, pitch = self.bend.attitude(x)
        tilt = np.eye(4)
        cos, sin = np.cos(pitch), np.sin(pitch)
        tilt[:3, :3] = [[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]]
        place = self.upright(x, y, z, 0.0)
        result: Floats = place @ tilt @ pose(0, 0, 0, yaw)
        return result

    def movers_at(self, time_s: float) -> Mesh:
        """Return everything that moves, in the world, at a time."""
        mesh = Mesh()
        for mover in self.movers:
            x = mover.x + mover.speed_mps * time_s
            mesh.extend(mover.mesh, self.on_road(x, mover.y, mover.z, mover.yaw))
        return mesh
