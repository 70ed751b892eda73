"""Occupancy -> PointCloud2."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip('rclpy')

from sensor_msgs.msg import PointField

from cigocc_ros.core.frames import Occupancy
from cigocc_ros.core.grid import VoxelGrid
from cigocc_ros.core.labels import PALETTE_RGB
from cigocc_ros.core.point_records import (
    OCCUPANCY_DTYPE,
    SURE_OCCUPANCY_DTYPE,
    lidar_points,
)
from cigocc_ros.ros.output.clouds import cloud_from_occupancy, cloud_from_points, header

GRID = VoxelGrid((0.0, -2.0, -1.0), (0.5, 1.0, 0.25), (4, 4, 8))


def occupancy() -> Occupancy:
    labels = np.zeros(GRID.shape, np.uint8)
    labels[3, 0, 7], labels[1, 2, 0] = 19, 9
    probability = np.zeros(GRID.shape, np.uint8)
    probability[3, 0, 7], probability[1, 2, 0] = 255, 51
    return Occupancy(labels, probability, GRID, 1_500_000_000, 'velo_link')


def test_fields_and_offsets_are_those_of_pcl_xyzrgbl():
    fields = cloud_from_occupancy(occupancy()).fields
    described = [(f.name, f.offset, f.datatype, f.count) for f in fields]
    real, label = PointField.FLOAT32, PointField.UINT32
    assert described == [
        ('x', 0, real, 1),
        ('y', 4, real, 1),
        ('z', 8, real, 1),
        ('rgb', 12, real, 1),
        ('label', 16, label, 1),
        ('probability', 20, real, 1),
    ]


def test_values_of_two_voxels():
    cloud = cloud_from_occupancy(occupancy())
    assert (cloud.width, cloud.height, cloud.point_step, cloud.row_step) == (2, 1, 24, 48)
    assert (cloud.header.frame_id, cloud.header.stamp.sec) == ('velo_link', 1)
    assert cloud.is_dense and not cloud.is_bigendian
    points = np.frombuffer(cloud.data, OCCUPANCY_DTYPE)
    assert points['x'].tolist() == [0.75, 1.75]
    assert points['y'].tolist() == [0.5, -1.5]
    assert points['z'].tolist() == [-0.875, 0.875]
    assert points['label'].tolist() == [9, 19]
    np.testing.assert_allclose(points['probability'], [0.2, 1.0])
    packed = points['rgb'].view('<u4')
    for train_id, value in zip((9, 19), packed, strict=True):
        red, green, blue = PALETTE_RGB[train_id].tolist()
        assert value == red * 65536 + green * 256 + blue


def test_a_model_that_knows_how_sure_it_is_adds_a_field_at_the_end():
    sure = np.full(GRID.shape, 7, np.uint8)
    sure[3, 0, 7], sure[1, 2, 0] = 255, 102
    cloud = cloud_from_occupancy(replace(occupancy(), class_probability=sure))
    without = cloud_from_occupancy(occupancy())
    described = [(f.name, f.offset, f.datatype, f.count) for f in cloud.fields]
    plain = [(f.name, f.offset, f.datatype, f.count) for f in without.fields]
    assert described == [*plain, ('class_confidence', 24, PointField.FLOAT32, 1)]
    assert (cloud.point_step, cloud.row_step) == (28, 56)
    points = np.frombuffer(cloud.data, SURE_OCCUPANCY_DTYPE)
    np.testing.assert_allclose(points['class_confidence'], [0.4, 1.0])
    old = np.frombuffer(without.data, OCCUPANCY_DTYPE)
    assert all((points[name] == old[name]).all() for name in OCCUPANCY_DTYPE.names)


def test_an_empty_map_is_an_empty_cloud():
    zeros = np.zeros(GRID.shape, np.uint8)
    cloud = cloud_from_occupancy(Occupancy(zeros, zeros, GRID, 0, 'velo_link'))
    assert (cloud.width, cloud.row_step, len(cloud.data), len(cloud.fields)) == (0, 0, 0, 6)


def test_sensor_msgs_py_reads_the_same():
    point_cloud2 = pytest.importorskip('sensor_msgs_py.point_cloud2')
    read = point_cloud2.read_points(cloud_from_occupancy(occupancy()), field_names=['x', 'label'])
    assert read['label'].tolist() == [9, 19]
    assert read['x'].tolist() == [0.75, 1.75]


def test_lidar_cloud():
    points = np.array([[1, 2, 3, 0.5], [4, 5, 6, 0.25]], np.float32)
    cloud = cloud_from_points(lidar_points(points), header(7, 'velo_link'))
    assert [f.name for f in cloud.fields] == ['x', 'y', 'z', 'intensity']
    np.testing.assert_array_equal(np.frombuffer(cloud.data, '<f4').reshape(2, 4), points)
