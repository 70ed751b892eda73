"""Point clouds: occupied voxels and lidar points as PointCloud2 messages."""

from __future__ import annotations

import array
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from cigocc_ros.core.frames import Occupancy
from cigocc_ros.core.point_records import occupancy_points
from cigocc_ros.ros.stamps import stamp_from_ns

_DATATYPES = {'<f4': PointField.FLOAT32, '<u4': PointField.UINT32}


def header(stamp_ns: int, frame_id: str) -> Header:
    """Return a Header."""
    return Header(stamp=stamp_from_ns(stamp_ns), frame_id=frame_id)


def cloud_from_occupancy(occupancy: Occupancy) -> PointCloud2:
    """Return the occupied voxels as a cloud with the stamp and frame of the occupancy."""
    points = occupancy_points(occupancy)
    return cloud_from_points(points, header(occupancy.stamp_ns, occupancy.frame_id))


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


def byte_array(values: NDArray[Any]) -> array.array[int]:
    """Return a uint8 array.array with the bytes of `values`, the type message fields take fast.

    Assigning bytes or an ndarray makes the generated setter look at every element (Humble, or
    ROS_PYTHON_CHECK_FIELDS=1), see ros2/common_interfaces#177.
    """
    data = array.array('B')
    data.frombytes(np.ascontiguousarray(values).view(np.uint8).data)
    return data
