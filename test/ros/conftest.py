"""Graphs for the tests with rclpy; where rclpy is absent every file here skips itself."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def domain() -> None:
    try:
        from fixtures_ros import enter_domain
    except ModuleNotFoundError:
        return  # no rclpy: the files that need it skip themselves
    enter_domain()


@pytest.fixture
def make_graph() -> Iterator[Callable[..., Any]]:
    from fixtures_ros import Graph

    made: list[Any] = []

    def make(**options: Any) -> Any:
        made.append(Graph(**options))
        return made[-1]

    yield make
    for graph in made:
        graph.close()


@pytest.fixture
def graph(make_graph) -> Any:
    return make_graph()
