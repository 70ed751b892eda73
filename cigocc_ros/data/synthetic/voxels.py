"""Ground-truth volumes of a scene: labels where a driving lidar would have seen surfaces.

Follows how SemanticKITTI's volumes come about: surfaces seen from the present or a later position
of the vehicle are occupied; a voxel is `occluded` when the straight line to the present sensor
meets an occupied voxel, `invalid` when that holds for every later position too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID, VoxelGrid
from cigocc_ros.core.labels import EMPTY, NUM_CLASSES
from cigocc_ros.data.raycast import RayCaster
from cigocc_ros.data.synthetic.mesh import FrozenMesh, quads
from cigocc_ros.data.synthetic.view import LIDAR_ELEVATION_DEG

POINTS_PER_M2 = 140.0
RANGE_M = (2.5, 70.0)
HALF = (128, 128, 16)
"""Visibility is computed at half resolution and repeated."""


@dataclass(frozen=True)
class Volumes:
    """labels (X, Y, Z) uint8 train ids; occluded and invalid (X, Y, Z) bool."""

    labels: NDArray[np.uint8]
    occluded: NDArray[np.bool_]
    invalid: NDArray[np.bool_]


def build_volumes(
    mesh: FrozenMesh, sensors_m: NDArray[np.float64], random: np.random.Generator
) -> Volumes:
    """Voxelise a mesh given in the lidar frame; sensors_m (S, 3), the present one first."""
    grid = SEMANTIC_KITTI_GRID
    full = vote(*sample_points(mesh, grid, random), grid)
    coarse = grid.with_shape(HALF)
    solid = full.reshape(128, 2, 128, 2, 16, 2).max(axis=(1, 3, 5)) != EMPTY
    caster = RayCaster(voxel_triangles(full != EMPTY, grid))
    centers = coarse.centers_m()
    hidden = np.stack([_hidden(caster, centers, sensor) for sensor in sensors_m])
    scanned = np.zeros(HALF, bool)
    for sensor, covered in zip(sensors_m, hidden, strict=True):
        scanned |= _dilated(~covered & ~solid) & solid & _in_beam(centers - sensor)
    labels = np.where(_repeated(scanned), full, EMPTY).astype(np.uint8)
    unseen = hidden.all(0) | (solid & ~scanned)
    occluded = _repeated(hidden[0]) | (labels != EMPTY)
    return Volumes(labels, occluded, _repeated(unseen) & (labels == EMPTY))


def sample_points(
    mesh: FrozenMesh, grid: VoxelGrid, random: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Return points (N, 3) on the surfaces and in the volumes of a mesh, and their classes."""
    low, high = np.array(grid.origin_m), np.array(grid.max_m)
    inside = (mesh.triangles.max(1) >= low).all(1) & (mesh.triangles.min(1) <= high).all(1)
    a, b, c = mesh.triangles[inside].transpose(1, 0, 2)
    area = 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1)
    expected = area * POINTS_PER_M2
    count = np.floor(expected + random.random(len(area))).astype(int)
    index = np.repeat(np.arange(len(area)), count)
    s, t = random.random((2, len(index), 1))
    fold = s + t > 1
    s, t = np.where(fold, 1 - s, s), np.where(fold, 1 - t, t)
    points = a[index] + s * (b - a)[index] + t * (c - a)[index]
    classes = mesh.classes[inside][index]
    return np.concatenate([points, mesh.volume]), np.concatenate([classes, mesh.volume_classes])


def vote(
    points: NDArray[np.float64], classes: NDArray[np.uint8], grid: VoxelGrid
) -> NDArray[np.uint8]:
    """Return the commonest class per voxel (X, Y, Z), the lowest id in a tie, 0 where none."""
    index, inside = grid.index_of(points)
    flat = np.ravel_multi_index(tuple(index[inside].T), grid.shape)
    codes, counts = np.unique(flat * NUM_CLASSES + classes[inside], return_counts=True)
    voxel, label = codes // NUM_CLASSES, codes % NUM_CLASSES
    order = np.lexsort((-label, counts, voxel))
    labels = np.zeros(grid.num_voxels, np.uint8)
    labels[voxel[order]] = label[order]  # the last of a voxel wins: most points, lowest id
    return labels.reshape(grid.shape)


def voxel_triangles(occupied: NDArray[np.bool_], grid: VoxelGrid) -> NDArray[np.float64]:
    """Return the outer faces of occupied voxels as triangles (T, 3, 3)."""
    padded = np.pad(occupied, 1)
    size, origin = np.array(grid.voxel_size_m), np.array(grid.origin_m)
    faces = []
    for axis in range(3):
        first, second = np.eye(3)[[a for a in range(3) if a != axis]] * size
        for side in (0, 1):
            neighbour = np.roll(padded, 1 - 2 * side, axis)[1:-1, 1:-1, 1:-1]
            low = origin + np.argwhere(occupied & ~neighbour) * size
            low[:, axis] += side * size[axis]
            corners = np.stack([low, low + first, low + first + second, low + second], axis=1)
            faces.append(quads(corners))
    return np.concatenate(faces)


def _hidden(
    caster: RayCaster, centers: NDArray[np.float64], sensor: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Say which voxels' line to the sensor meets an occupied voxel, (X, Y, Z)."""
    start = centers.reshape(-1, 3)
    hits = caster.cast(start, sensor - start)
    return (hits.distance < 1).reshape(centers.shape[:-1])


def _in_beam(offsets: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Say which offsets from the sensor (..., 3) lie in the lidar's range and elevation."""
    flat = np.linalg.norm(offsets[..., :2], axis=-1)
    elevation = np.rad2deg(np.arctan2(offsets[..., 2], flat))
    low, high = LIDAR_ELEVATION_DEG
    return (elevation >= low) & (elevation <= high) & (flat > RANGE_M[0]) & (flat < RANGE_M[1])


def _dilated(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    grown = mask.copy()
    for axis in range(3):
        for step in (-1, 1):
            moved = np.roll(mask, step, axis)
            edge = [slice(None)] * 3
            edge[axis] = slice(0, 1) if step == 1 else slice(-1, None)
            moved[tuple(edge)] = False
            grown |= moved
    return grown


def _repeated(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return mask.repeat(2, 0).repeat(2, 1).repeat(2, 2)
