"""Cast rays at triangles on the CPU, without a display: the one place that knows Embree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.errors import EngineError


@dataclass(frozen=True)
class Hits:
    """What each of N rays met first.

    triangle: (N,) int64 index, -1 where the ray met nothing. distance: (N,) float32 in lengths of
    the ray's direction, infinite for a miss. u, v: (N,) float32 barycentric coordinates, the point
    is `a + u * (b - a) + v * (c - a)` of the triangle (a, b, c).
    """

    triangle: NDArray[np.int64]
    distance: NDArray[np.float32]
    u: NDArray[np.float32]
    v: NDArray[np.float32]

    @property
    def hit(self) -> NDArray[np.bool_]:
        """Mask of the rays that met a triangle, (N,)."""
        mask: NDArray[np.bool_] = self.triangle >= 0
        return mask


class RayCaster:
    """Embree over a fixed set of triangles; the Embree of the package embreex."""

    def __init__(self, triangles: NDArray[np.floating[Any]]) -> None:
        """Take triangles (T, 3, 3); raise EngineError on another shape."""
        vertices = np.ascontiguousarray(triangles, dtype=np.float32)
        if vertices.ndim != 3 or vertices.shape[1:] != (3, 3):
            raise EngineError(f'triangles must be (T, 3, 3), found {vertices.shape}')
        self._scene = _embree_scene(vertices) if len(vertices) else None

    def cast(self, origins: NDArray[Any], directions: NDArray[Any]) -> Hits:
        """Return the first triangle along each ray; origins and directions (N, 3)."""
        if self._scene is None:
            return _misses(len(directions))
        answer = self._scene.run(_rays(origins), _rays(directions), output=True)
        triangle = answer['primID'].astype(np.int64)
        distance = np.where(triangle >= 0, answer['tfar'], np.inf).astype(np.float32)
        return Hits(triangle, distance, answer['u'], answer['v'])

    def occluded(self, origins: NDArray[Any], directions: NDArray[Any]) -> NDArray[np.bool_]:
        """Say which rays (N, 3) meet any triangle, (N,)."""
        if self._scene is None or len(directions) == 0:
            return np.zeros(len(directions), dtype=bool)
        answer = self._scene.run(_rays(origins), _rays(directions), query='OCCLUDED')
        mask: NDArray[np.bool_] = answer >= 0
        return mask

    def blocked(self, origins: NDArray[Any], spans: NDArray[Any]) -> NDArray[np.bool_]:
        """Say which lines from `origins` to `origins + spans` (N, 3) meet any triangle, (N,)."""
        if self._scene is None or len(spans) == 0:
            return np.zeros(len(spans), dtype=bool)
        reach = np.ones(len(spans), np.float32)
        answer = self._scene.run(_rays(origins), _rays(spans), dists=reach, query='OCCLUDED')
        mask: NDArray[np.bool_] = answer >= 0
        return mask


def _embree_scene(vertices: NDArray[np.float32]) -> Any:
    from embreex.mesh_construction import TriangleMesh
    from embreex.rtcore_scene import EmbreeScene

    scene = EmbreeScene()
    TriangleMesh(scene, vertices)
    return scene


def _rays(vectors: NDArray[Any]) -> NDArray[np.float32]:
    return np.ascontiguousarray(vectors, dtype=np.float32)


def _misses(count: int) -> Hits:
    zeros = np.zeros(count, np.float32)
    return Hits(np.full(count, -1, np.int64), np.full(count, np.inf, np.float32), zeros, zeros)
