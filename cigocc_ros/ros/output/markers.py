"""Occupied voxels as cubes for RViz and Foxglove: one CUBE_LIST per class, capped."""

from __future__ import annotations

import logging

import numpy as np
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point, Pose, Quaternion, Vector3
from numpy.typing import NDArray
from rclpy.serialization import deserialize_message, serialize_message
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from cigocc_ros.core.frames import Occupancy
from cigocc_ros.core.grid import VoxelGrid
from cigocc_ros.core.labels import CLASS_NAMES, NUM_CLASSES, PALETTE_RGB
from cigocc_ros.core.voxel_filter import surface_voxels
from cigocc_ros.ros.output.cdr import OPAQUE, CubeList, marker_array_bytes
from cigocc_ros.ros.output.clouds import header

logger = logging.getLogger(__name__)


def cube_lists(occupancy: Occupancy, max_cubes: int) -> list[CubeList]:
    """Return the surface voxels by class, at most `max_cubes`: the nearest to the frame origin."""
    flat = occupancy.occupied_index
    flat = flat[surface_voxels(occupancy.occupied).ravel().take(flat)]
    labels = occupancy.labels.ravel().take(flat)
    by_class = np.argsort(labels, kind='stable')
    centers = _centers_m(occupancy.grid, flat.take(by_class))
    labels = labels.take(by_class)
    if flat.size > max_cubes:
        kept = np.sort(_nearest(centers, max_cubes))
        centers, labels = centers[kept], labels[kept]
    counts = np.bincount(labels, minlength=NUM_CLASSES)
    ends = np.cumsum(counts)
    return [
        CubeList(
            name=CLASS_NAMES[train_id],
            marker_id=train_id,
            rgb=_rgb(train_id),
            size_m=occupancy.grid.voxel_size_m,
            centers_m=centers[ends[train_id] - counts[train_id] : ends[train_id]],
        )
        for train_id in np.flatnonzero(counts).tolist()
    ]


def _centers_m(grid: VoxelGrid, flat: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the centres (N, 3) of indices (N,) into the raveled grid."""
    centers = np.empty((flat.size, 3))
    for axis, index in enumerate(grid.split_index(flat)):
        centers[:, axis] = grid.axis_centers_m[axis].take(index)
    return centers


def _nearest(centers_m: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Return which `count` of more points (N, 3) are nearest to the origin, in any order."""
    square = np.einsum('na,na->n', centers_m, centers_m)
    return np.argpartition(square, count - 1)[:count]


def _rgb(train_id: int) -> tuple[int, int, int]:
    red, green, blue = PALETTE_RGB[train_id].tolist()
    return red, green, blue


def marker_array(stamp_ns: int, frame_id: str, cubes: list[CubeList]) -> MarkerArray:
    """Return DELETEALL and one CUBE_LIST marker each, as message objects (slow)."""
    clear = Marker(header=header(stamp_ns, frame_id), action=Marker.DELETEALL)
    markers = [_marker(stamp_ns, frame_id, cube_list) for cube_list in cubes]
    return MarkerArray(markers=[clear, *markers])


def _marker(stamp_ns: int, frame_id: str, cubes: CubeList) -> Marker:
    red, green, blue = (value / 255 for value in cubes.rgb)
    x, y, z = cubes.size_m
    return Marker(
        header=header(stamp_ns, frame_id),
        ns=cubes.name,
        id=cubes.marker_id,
        type=Marker.CUBE_LIST,
        action=Marker.ADD,
        pose=Pose(orientation=Quaternion(w=1.0)),
        scale=Vector3(x=x, y=y, z=z),
        color=ColorRGBA(r=red, g=green, b=blue, a=OPAQUE),
        lifetime=Duration(),
        points=[Point(x=x, y=y, z=z) for x, y, z in cubes.centers_m.tolist()],
    )


class MarkerWriter:
    """Make the message to publish: serialised bytes where the fast layout is right here."""

    def __init__(self) -> None:
        """Compare the numpy layout with the installed message type, once."""
        self.fast = fast_layout_is_right()
        if not self.fast:
            logger.warning(
                'visualization_msgs/Marker of this distribution has another layout: markers are '
                'written as message objects, about 4 ms per 1000 cubes'
            )

    def __call__(self, occupancy: Occupancy, max_cubes: int) -> bytes | MarkerArray:
        """Return the MarkerArray of an occupancy, serialised or as a message object."""
        cubes = cube_lists(occupancy, max_cubes)
        write = marker_array_bytes if self.fast else marker_array
        return write(occupancy.stamp_ns, occupancy.frame_id, cubes)


def fast_layout_is_right() -> bool:
    """Say whether the bytes of two small cube lists deserialise to the same message objects."""
    centers = np.arange(6, dtype=np.float64).reshape(2, 3)
    cubes = [
        CubeList('road', 9, (255, 0, 255), (0.2, 0.2, 0.4), centers),
        CubeList('car', 1, (100, 150, 245), (0.2, 0.2, 0.4), centers[:1]),
    ]
    try:
        read = deserialize_message(marker_array_bytes(1_500_000_000, 'velo', cubes), MarkerArray)
    except Exception:  # the type support raises plain RuntimeError or RMWError
        return False
    slow = serialize_message(marker_array(1_500_000_000, 'velo', cubes))
    return bool(read == deserialize_message(slow, MarkerArray))
