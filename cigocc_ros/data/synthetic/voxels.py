"""Ground-truth volumes of a scene: labels where a driving lidar would have found surfaces.

Follows how SemanticKITTI's volumes come about: a voxel is occupied when a scan from the present or
a later position hit something in it; `occluded` when it is occupied itself or the line to the
present sensor meets an occupied voxel; `invalid` when nothing was hit in it and occupied voxels
hide it from every position.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.arrays import Floats
from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID, VoxelGrid
from cigocc_ros.core.labels import CLASS_NAMES, EMPTY
from cigocc_ros.data.raycast import RayCaster
from cigocc_ros.data.synthetic.mesh import FrozenMesh, moved
from cigocc_ros.data.synthetic.view import LIDAR_ELEVATION_DEG
from cigocc_ros.data.synthetic.visibility import RangeImage
from cigocc_ros.data.voxel_faces import voxel_triangles
from cigocc_ros.data.voxelizer import RANGE_M, flat_voxels, majority

Near = Callable[[Floats], NDArray[np.bool_]]
POINTS_PER_M2 = 90.0
SCATTER_M = 0.035
"""Spread of points hit in many scans: range noise and inexact poses."""
HALF = (128, 128, 16)
"""Empty space is looked at in half resolution and the answer repeated."""
SURFACE_DEPTH_M, LEAF_DEPTH_M = 0.35, 1.6
"""How far behind the first surface scans from many places still hit something."""
_EVEN_STEPS = np.array([[0.7548776662466927], [0.5698402909980532]])
"""Steps of the R2 sequence: successive points fall into the gaps between earlier ones."""
VEGETATION = CLASS_NAMES.index('vegetation')


@dataclass(frozen=True)
class Volumes:
    """labels (X, Y, Z) uint8 train ids; occluded and invalid (X, Y, Z) bool."""

    labels: NDArray[np.uint8]
    occluded: NDArray[np.bool_]
    invalid: NDArray[np.bool_]


@dataclass(frozen=True)
class Samples:
    """Points (N, 3) float32 of surfaces and foliage, classes (N,); world frame, sorted by x."""

    points: NDArray[np.float32]
    classes: NDArray[np.uint8]

    @classmethod
    def of(
        cls, mesh: FrozenMesh, random: np.random.Generator, near: Near | None = None
    ) -> Samples:
        """Sample a mesh evenly; foliage by the points in its volume, not by its leaves.

        `near` says which points (N, 3) can come into a grid at all; the others are left out.
        """
        kept = mesh.classes != VEGETATION
        volume, volume_classes = mesh.volume, mesh.volume_classes
        if near is not None:
            kept = kept & near(mesh.triangles.mean(axis=1))
            inside = near(volume)
            volume, volume_classes = volume[inside], volume_classes[inside]
        surfaces, classes = sample_surfaces(mesh.triangles[kept], mesh.classes[kept], random)
        points: NDArray[np.float32] = np.concatenate([surfaces, volume]).astype(np.float32)
        points += np.float32(SCATTER_M) * random.standard_normal(points.shape, np.float32)
        order = np.argsort(points[:, 0], kind='stable')
        return cls(points[order], np.concatenate([classes, volume_classes])[order])

    def within(
        self, velo_from_world: Floats, grid: VoxelGrid
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Return the points near the grid, in its frame, and their classes."""
        world_from_velo = np.linalg.inv(velo_from_world)
        middle = np.array(grid.origin_m) + np.array(grid.extent_m) / 2
        centre = world_from_velo[:3, :3] @ middle + world_from_velo[:3, 3]
        reach = np.hypot(grid.extent_m[0], grid.extent_m[1]) / 2
        start, stop = np.searchsorted(self.points[:, 0], [centre[0] - reach, centre[0] + reach])
        move = velo_from_world.astype(np.float32)
        points = self.points[start:stop] @ move[:3, :3].T + move[:3, 3]
        return points, self.classes[start:stop]


def sample_surfaces(
    triangles: Floats, classes: NDArray[np.uint8], random: np.random.Generator
) -> tuple[Floats, NDArray[np.uint8]]:
    """Return points (N, 3) spread evenly over triangles (T, 3, 3), and their classes."""
    a, b, c = triangles.transpose(1, 0, 2)
    area = 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1)
    count = np.floor(area * POINTS_PER_M2 + random.random(len(area))).astype(int)
    index = np.repeat(np.arange(len(area)), count)
    first = np.repeat(np.cumsum(count) - count, count)
    number = np.arange(len(index)) - first
    start = random.random((2, len(area)))[:, index]
    s, t = ((start + number * _EVEN_STEPS) % 1.0)[..., None]
    fold = s + t > 1
    s, t = np.where(fold, 1 - s, s), np.where(fold, 1 - t, t)
    return a[index] + s * (b - a)[index] + t * (c - a)[index], classes[index]


def build_volumes(
    points: NDArray[np.float32], classes: NDArray[np.uint8], scanners: list[RangeImage],
    velo_from_world: Floats, grid: VoxelGrid = SEMANTIC_KITTI_GRID,
) -> Volumes:  # fmt: skip
    """Voxelise points in the grid's frame; scanners in the world, the present one first."""
    full = vote(points, classes, grid)
    voxel = np.argwhere(full != EMPTY)
    label = full[tuple(voxel.T)]
    world_from_velo = np.linalg.inv(velo_from_world).astype(np.float64)
    centers_world = moved(grid.center_of(voxel), world_from_velo)
    hit = _scanned(centers_world, label, scanners)
    labels = np.zeros(grid.shape, np.uint8)
    labels[tuple(voxel[hit].T)] = label[hit]
    blocks = RayCaster(voxel_triangles(labels != EMPTY, grid))

    def surface(origins: Floats, rays: Floats) -> NDArray[np.float32]:
        return blocks.cast(origins, rays).distance

    centers = grid.with_shape(HALF).centers_m().reshape(-1, 3)
    hidden = np.ones((len(scanners), len(centers)), bool)
    for number, scanner in enumerate(scanners):
        origin = moved(scanner.origin, velo_from_world)
        hidden[number] = ~RangeImage.cast(origin, surface).visible(centers, 0.0)
    occupied = labels != EMPTY
    occluded = _repeated(hidden[0].reshape(HALF)) | occupied
    return Volumes(labels, occluded, _repeated(hidden.all(axis=0).reshape(HALF)) & ~occupied)


def vote(
    points: NDArray[np.float32], classes: NDArray[np.uint8], grid: VoxelGrid
) -> NDArray[np.uint8]:
    """Return the commonest class per voxel (X, Y, Z), the lowest id in a tie, 0 where none."""
    flat, inside = flat_voxels(points, grid)
    labels, _ = majority(flat, classes[inside], grid)
    return labels.astype(np.uint8)


def _scanned(
    centers: Floats, label: NDArray[np.uint8], scanners: list[RangeImage]
) -> NDArray[np.bool_]:
    """Say which occupied voxels (N,) a scan from any of the positions hits."""
    margin = np.where(label == VEGETATION, LEAF_DEPTH_M, SURFACE_DEPTH_M).astype(np.float32)
    hit = np.zeros(len(centers), bool)
    for scanner in scanners:
        left = np.flatnonzero(~hit)
        left = left[_in_beam(centers[left] - scanner.origin)]
        hit[left] = scanner.visible(centers[left], margin[left])
    return hit


def _in_beam(offsets: Floats) -> NDArray[np.bool_]:
    """Say which offsets from the sensor (N, 3) lie in the lidar's range and elevation."""
    flat = np.linalg.norm(offsets[:, :2], axis=1)
    low, high = np.tan(np.deg2rad(LIDAR_ELEVATION_DEG))
    slope = offsets[:, 2] / np.maximum(flat, 1e-6)
    in_range = (flat > RANGE_M[0]) & (flat < RANGE_M[1])
    seen: NDArray[np.bool_] = (slope >= low) & (slope <= high) & in_range
    return seen


def _repeated(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return mask.repeat(2, 0).repeat(2, 1).repeat(2, 2)
