"""The ROS 2 side: the only layer that imports rclpy and message packages."""
