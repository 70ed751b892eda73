"""Checks of the ROS installation, importable without rclpy, and of a running system."""
