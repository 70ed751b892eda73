"""Semantic voxel maps from a camera: an independent implementation of CIGOcc for ROS 2."""

__version__ = '0.1.0'
