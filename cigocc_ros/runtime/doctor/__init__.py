"""Checks of the machine: Python, libraries, GPU, TensorRT, model files, disk. No ROS here."""
