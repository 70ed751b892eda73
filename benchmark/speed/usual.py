"""The same steps as most nodes in Python write them: the peers of every ratio.

The cloud follows the algorithm of `sensor_msgs_py.point_cloud2.create_cloud` in words of our own,
since it is not on PyPI: records or a list of tuples become a structured array, which is copied
into the `array.array` of the message.
"""

from __future__ import annotations

import array
from collections.abc import Sequence
from typing import Any

import numpy as np
from geometry_msgs.msg import Point
from numpy.typing import NDArray
from sensor_msgs.msg import Image, PointCloud2, PointField
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from cigocc_ros.core.frames import CameraFrame, Occupancy
from cigocc_ros.core.grid import VoxelGrid
from cigocc_ros.core.labels import EMPTY, PALETTE_RGB
from cigocc_ros.core.opencv import import_cv2
from cigocc_ros.core.projection import project_voxels

FIELDS = [
    PointField(name=name, offset=4 * index, datatype=kind, count=1)
    for index, (name, kind) in enumerate(
        [
            *((axis, PointField.FLOAT32) for axis in ('x', 'y', 'z', 'rgb')),
            ('label', PointField.UINT32),
            ('probability', PointField.FLOAT32),
        ]
    )
]
KINDS = {PointField.FLOAT32: np.float32, PointField.UINT32: np.uint32}


def create_cloud(header: Header, fields: Sequence[PointField], points: Any) -> PointCloud2:
    """Return an unordered cloud of records, or of a sequence of tuples."""
    dtype = np.dtype([(field.name, KINDS[field.datatype]) for field in fields])
    if not isinstance(points, np.ndarray):
        points = np.array([tuple(point) for point in points], dtype=dtype)
    if points.dtype != dtype:
        raise ValueError(f'records of {dtype} expected, found {points.dtype}')
    data = array.array('B')
    data.frombytes(memoryview(points).cast('B'))
    cloud = PointCloud2(header=header, height=1, width=len(points), fields=fields)
    cloud.point_step, cloud.row_step = dtype.itemsize, dtype.itemsize * len(points)
    cloud.data = data
    return cloud


def records(occupancy: Occupancy) -> NDArray[Any]:
    """Return the occupied voxels as records, found and placed with plain numpy."""
    index = np.argwhere(occupancy.labels != EMPTY)
    centers = occupancy.grid.center_of(index).astype(np.float32)
    labels = occupancy.labels[tuple(index.T)]
    points = np.zeros(len(index), [(field.name, KINDS[field.datatype]) for field in FIELDS])
    points['x'], points['y'], points['z'] = centers.T
    red, green, blue = PALETTE_RGB[labels].astype(np.uint32).T
    points['rgb'] = (red << 16 | green << 8 | blue).view(np.float32)
    points['label'] = labels
    points['probability'] = occupancy.probability[tuple(index.T)] / 255
    return points


def marker_objects(header: Header, occupancy: Occupancy) -> MarkerArray:
    """Return one CUBE_LIST with a Point and a ColorRGBA per occupied voxel."""
    index = np.argwhere(occupancy.labels != EMPTY)
    marker = Marker(header=header, ns='voxels', type=Marker.CUBE_LIST, action=Marker.ADD)
    marker.pose.orientation.w = 1.0
    marker.scale.x, marker.scale.y, marker.scale.z = occupancy.grid.voxel_size_m
    palette = (PALETTE_RGB / 255.0).tolist()
    labels = occupancy.labels[tuple(index.T)]
    for (x, y, z), label in zip(occupancy.grid.center_of(index), labels, strict=True):
        red, green, blue = palette[label]
        marker.points.append(Point(x=x, y=y, z=z))
        marker.colors.append(ColorRGBA(r=red, g=green, b=blue, a=1.0))
    return MarkerArray(markers=[marker])


def bgr_pixels(message: Image) -> NDArray[np.uint8]:
    """Return the bgr8 pixels of a message as rgb, the way of cv_bridge."""
    pixels = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)
    cv2 = import_cv2('the usual way')
    rgb: NDArray[np.uint8] = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    return rgb


def preprocess(
    frame: CameraFrame, size: tuple[int, int], grid: VoxelGrid
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return the image, scaled and normalised, and every voxel's pixel, new for every frame."""
    height, width = size
    cv2 = import_cv2('the usual way')
    scaled = cv2.resize(frame.image, (width, height), interpolation=cv2.INTER_AREA)
    normal = (scaled.astype(np.float32) / 255 - 0.45) / 0.225
    pixels, _, _ = project_voxels(grid, frame.camera, frame.cam_from_velo)
    return np.ascontiguousarray(normal.transpose(2, 0, 1)), pixels


def labels_of(logits: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return the best class (X, Y, Z) and how sure "not empty" is, of scores (20, X, Y, Z)."""
    exponentials = np.exp(logits - logits.max(axis=0))
    probability = 1 - exponentials[EMPTY] / exponentials.sum(axis=0)
    return logits.argmax(axis=0).astype(np.uint8), probability
