"""Procedural streets: geometry, images, depth, lidar and voxels from one and the same mesh."""
