"""All files of a KITTI odometry / SemanticKITTI sequence that are not images, in one place."""

from cigocc_ros.data.scan_files import (
    read_point_instances,
    read_point_labels,
    read_velodyne,
    write_point_labels,
    write_velodyne,
)
from cigocc_ros.data.text_files import (
    CALIB_ROWS,
    read_calib,
    read_poses,
    read_times,
    write_calib,
    write_poses,
    write_times,
)
from cigocc_ros.data.voxel_files import (
    read_voxel_bits,
    read_voxel_labels,
    write_voxel_bits,
    write_voxel_labels,
)

__all__ = [
    'CALIB_ROWS',
    'read_calib',
    'read_point_instances',
    'read_point_labels',
    'read_poses',
    'read_times',
    'read_velodyne',
    'read_voxel_bits',
    'read_voxel_labels',
    'write_calib',
    'write_point_labels',
    'write_poses',
    'write_times',
    'write_velodyne',
    'write_voxel_bits',
    'write_voxel_labels',
]
