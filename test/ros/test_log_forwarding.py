"""The library's log goes to the nodes of the process, and afterwards where it went before."""

import logging

import pytest

pytest.importorskip('rclpy')

from cigocc_ros.ros.log_forwarding import LIBRARY, forward_logging


class FakeNode:
    """A node whose logger keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def get_logger(self):
        return self

    def info(self, text: str) -> None:
        self.told.append(text)


@pytest.mark.parametrize('first_ends', [True, False])
def test_two_nodes_end_in_any_order(first_ends):
    library = logging.getLogger(LIBRARY)
    before = library.level, library.propagate, list(library.handlers)
    nodes = FakeNode(), FakeNode()
    stops = [forward_logging(node) for node in nodes]
    logging.getLogger(f'{LIBRARY}.core').info('both')
    assert [node.told for node in nodes] == [['both'], ['both']]
    for stop in stops if first_ends else reversed(stops):
        assert not library.propagate
        stop()
    assert (library.level, library.propagate, list(library.handlers)) == before
