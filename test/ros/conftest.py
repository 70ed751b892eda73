"""Graphs for the tests with rclpy; where rclpy is absent every file here skips itself."""

from fixtures_graph import domain, full_disk, graph, make_graph, prefix  # noqa: F401
