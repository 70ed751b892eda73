"""Point clouds: occupied voxels and lidar points as PointCloud2 messages."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from cigocc_ros.core.frames import Occupancy
from cigocc_ros.core.grid import VoxelGrid
from cigocc_ros.core.labels import PALETTE_RGB
from cigocc_ros.ros.conversions import byte_array, stamp_from_ns

# RViz and PCL read colours as 0x00RRGGBB in the bits of a FLOAT32 named rgb (pcl::PointXYZRGBL).
OCCUPANCY_DTYPE = np.dtype(
    [
        ('x', '<f4'),
        ('y', '<f4'),
        ('z', '<f4'),
        ('rgb', '<f4'),
        ('label', '<u4'),
        ('probability', '<f4'),
    ]
)
LIDAR_DTYPE = np.dtype([('x', '<f4'), ('y', '<f4'), ('z', '<f4'), ('intensity', '<f4')])
_DATATYPES = {'<f4': PointField.FLOAT32, '<u4': PointField.UINT32}


def header(stamp_ns: int, frame_id: str) -> Header:
    """Return a Header."""
    return Header(stamp=stamp_from_ns(stamp_ns), frame_id=frame_id)


def packed_palette() -> NDArray[np.float32]:
    """Return the class colours packed as FLOAT32 0x00RRGGBB, (20,)."""
    red, green, blue = PALETTE_RGB.astype(np.uint32).T
    packed: NDArray[np.float32] = (red << 16 | green << 8 | blue).view(np.float32)
    return packed


@lru_cache(maxsize=4)
def axis_centers_m(grid: VoxelGrid) -> tuple[NDArray[np.float32], ...]:
    """Return the voxel centres along x, y and z, in metres."""
    return tuple(
        (origin + (np.arange(count) + 0.5) * size).astype(np.float32)
        for origin, size, count in zip(grid.origin_m, grid.voxel_size_m, grid.shape, strict=True)
    )


def occupancy_points(occupancy: Occupancy) -> NDArray[Any]:
    """Return the occupied voxels as a structured array of OCCUPANCY_DTYPE, (N,)."""
    index = np.nonzero(occupancy.occupied)
    points = np.empty(index[0].size, dtype=OCCUPANCY_DTYPE)
    for name, centers, along in zip('xyz', axis_centers_m(occupancy.grid), index, strict=True):
        points[name] = centers[along]
    labels = occupancy.labels[index]
    points['rgb'] = packed_palette()[labels]
    points['label'] = labels
    points['probability'] = occupancy.probability[index] / np.float32(255)
    return points


def cloud_from_occupancy(occupancy: Occupancy) -> PointCloud2:
    """Return the occupied voxels as a cloud with the stamp and frame of the occupancy."""
    points = occupancy_points(occupancy)
    return cloud_from_points(points, header(occupancy.stamp_ns, occupancy.frame_id))


def cloud_from_lidar(points: NDArray[np.float32], cloud_header: Header) -> PointCloud2:
    """Return lidar points (N, 4) x, y, z, intensity as a cloud."""
    structured = np.ascontiguousarray(points, dtype='<f4').view(LIDAR_DTYPE)[:, 0]
    return cloud_from_points(structured, cloud_header)


def cloud_from_points(points: NDArray[Any], cloud_header: Header) -> PointCloud2:
    """Return a structured array (N,) of '<f4' and '<u4' fields as an unordered cloud."""
    step = points.dtype.itemsize
    cloud = PointCloud2(
        header=cloud_header,
        height=1,
        width=points.size,
        fields=cloud_fields(points.dtype),
        is_bigendian=False,
        point_step=step,
        row_step=step * points.size,
        is_dense=True,
    )
    cloud.data = byte_array(points)
    return cloud


def cloud_fields(dtype: np.dtype[Any]) -> list[PointField]:
    """Return the PointFields of a structured dtype."""
    described: Mapping[str, Any] = dtype.fields or {}
    return [
        PointField(name=name, offset=offset, datatype=_DATATYPES[kind.str], count=1)
        for name, (kind, offset, *_) in described.items()
    ]
