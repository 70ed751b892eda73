"""Back from PointCloud2 to numpy: what a subscriber does with ~/occupancy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import PointCloud2, PointField

from cigocc_ros.core.errors import FrameError
from cigocc_ros.core.text import excerpt

_KINDS = {
    PointField.INT8: 'i1',
    PointField.UINT8: 'u1',
    PointField.INT16: 'i2',
    PointField.UINT16: 'u2',
    PointField.INT32: 'i4',
    PointField.UINT32: 'u4',
    PointField.FLOAT32: 'f4',
    PointField.FLOAT64: 'f8',
}


def points_from_cloud(cloud: PointCloud2) -> NDArray[Any]:
    """Return the points (N,) with the cloud's own fields; raise FrameError where
    fields and lengths contradict each other."""
    dtype = _dtype(cloud)
    if cloud.row_step != cloud.width * cloud.point_step:
        raise FrameError(f'rows of {cloud.row_step} bytes have padding, which is not supported')
    if len(cloud.data) != cloud.row_step * cloud.height:
        expected = cloud.row_step * cloud.height
        raise FrameError(f'a cloud of {expected} bytes was announced, found {len(cloud.data)}')
    return np.frombuffer(cloud.data, dtype)


def _dtype(cloud: PointCloud2) -> np.dtype[Any]:
    order = '>' if cloud.is_bigendian else '<'
    try:
        if not (cloud.fields and cloud.point_step):
            raise ValueError('no fields')
        return np.dtype(
            {
                'names': [field.name for field in cloud.fields],
                'formats': [order + _KINDS[field.datatype] for field in cloud.fields],
                'offsets': [field.offset for field in cloud.fields],
                'itemsize': cloud.point_step,
            }
        )
    except (KeyError, ValueError, TypeError, OverflowError) as error:
        found = [(field.name, field.offset, field.datatype) for field in cloud.fields]
        raise FrameError(
            f'fields (name, offset, datatype) {excerpt(found)} do not fit a point of '
            f'{cloud.point_step} bytes'
        ) from error
