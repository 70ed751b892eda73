"""Writes the nodes of an ONNX graph anew, with names of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from cigocc_ros.export.graph import Graph


class GraphWriter:
    """A list of nodes that grows; constants go into the graph at once.

    `look` shows the graph as it was. Names begin with the prefix, one of each writer.
    """

    def __init__(self, graph: onnx.GraphProto, prefix: str) -> None:
        """Take the graph and the beginning of all names that are made."""
        self.look = Graph(graph)
        self.nodes: list[onnx.NodeProto] = []
        self._graph, self._prefix, self._count = graph, prefix, 0

    def name(self) -> str:
        """Return a name that nothing has yet."""
        self._count += 1
        return f'{self._prefix}_{self._count}'

    def constant(self, values: NDArray[Any]) -> str:
        """Return the name of a constant."""
        name = self.name()
        self._graph.initializer.append(numpy_helper.from_array(values, name))
        return name

    def numbers(self, *values: int) -> str:
        """Return the name of whole numbers: axes, sizes, a shape."""
        return self.constant(np.array(values, np.int64))

    def make(
        self, kind: str, inputs: Sequence[str], output: str = '', mark: str = '', **more: Any
    ) -> str:
        """Write a node with attributes; return its output, which gets a name if it has none.

        `mark` begins the node's own name.
        """
        name = mark + self.name()
        self.nodes.append(helper.make_node(kind, inputs, [output or name], name, **more))
        return output or name

    def reshape(self, value: str, shape: Sequence[int], output: str = '') -> str:
        """Write another view of a value."""
        return self.make('Reshape', [value, self.numbers(*shape)], output)

    def split(self, value: str, sizes: Sequence[int], axis: int) -> list[str]:
        """Write a value's parts along an axis; one part is the value."""
        if len(sizes) == 1:
            return [value]
        name = self.name()
        parts = [f'{name}_{i}' for i in range(len(sizes))]
        inputs = [value, self.numbers(*sizes)]
        self.nodes.append(helper.make_node('Split', inputs, parts, name, axis=axis))
        return parts
