"""Pictures of voxels without ROS, display or system graphics libraries."""
