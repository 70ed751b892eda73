"""Which volumes of an ONNX graph are there as volume, and which as a stack; see `cpu_stacks`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from cigocc_ros.export.cpu_layouts import Shapes
from cigocc_ros.export.graph_writer import GraphWriter

_RANK = 5


class StackWriter(GraphWriter):
    """Writes the nodes of a graph anew, with stacks (Z, C, X, Y) for volumes (1, C, X, Y, Z).

    A volume is made of a stack, or a stack of a volume, once, where it is asked for.
    """

    def __init__(self, graph: onnx.GraphProto, shapes: Shapes) -> None:
        """Take the graph as it is and the shapes of its values."""
        super().__init__(graph, 'stacked')
        self.shapes = shapes
        self.stacks: dict[str, str] = {}
        """Of volumes that are there as a stack: its name."""
        self._absent: set[str] = set()
        """Volumes that are there as a stack only."""
        self.done: set[int] = set()
        """Nodes that were written with an earlier one."""

    def need_volume(self, name: str) -> None:
        """Write the volume of a stack where it is not there yet."""
        if name not in self._absent:
            return
        self._absent.discard(name)
        z, c, x, y = self.stack_shape(name)
        flat = self.reshape(self.stacks[name], (z, c * x * y))
        volume = self.make('Transpose', [flat], perm=[1, 0])
        self.reshape(volume, (1, c, x, y, z), name)

    def stack(self, name: str) -> str:
        """Return the stack of a volume, which is written where it is not there yet."""
        if name not in self.stacks:
            if name in self.look.weights:
                values = numpy_helper.to_array(self.look.weights[name])
                stack = self.constant(np.ascontiguousarray(values[0].transpose(3, 0, 1, 2)))
            else:
                z, c, x, y = self.stack_shape(name)
                flat = self.reshape(name, (c * x * y, z))
                turned = self.make('Transpose', [flat], perm=[1, 0])
                stack = self.reshape(turned, (z, c, x, y))
            self.stacks[name] = stack
        return self.stacks[name]

    def stack_shape(self, name: str) -> tuple[int, int, int, int]:
        """Return the shape that the stack of a volume has."""
        weight = self.look.weights.get(name)
        _, c, x, y, z = self.shapes[name] if weight is None else weight.dims
        return z, c, x, y

    def give(self, name: str, stack: str) -> None:
        """Note that a volume is there as a stack."""
        self.stacks[name] = stack
        self._absent.add(name)

    def is_volume(self, name: str) -> bool:
        """Return whether a value is one volume, of known shape."""
        weight = self.look.weights.get(name)
        shape = self.shapes.get(name, ()) if weight is None else tuple(weight.dims)
        return len(shape) == _RANK and shape[0] == 1

    def combine(self, matrix: NDArray[Any], stack: str, shape: Sequence[int]) -> str:
        """Return combinations (rows of the matrix) of the images (N, C, X, Y), as `shape`."""
        flat = self.reshape(stack, (matrix.shape[1], -1))
        made = self.make('MatMul', [self.constant(matrix.astype(np.float32)), flat])
        return self.reshape(made, shape)

    def chain(self, index: int, kinds: Sequence[str]) -> list[int] | None:
        """Return the nodes from `index` on, each the only user of the one before it."""
        chain = [index]
        for kind in kinds[1:]:
            (name,) = self.look.nodes[chain[-1]].output
            users = self.look.users(chain[-1])
            if self.look.uses(name) != 1 or len(users) != 1:
                return None
            (user,) = users
            if self.look.nodes[user].op_type != kind:
                return None
            chain.append(user)
        return chain

    def copy_of(self, node: onnx.NodeProto, inputs: Sequence[str]) -> None:
        """Write a node with other inputs, its output being a stack."""
        made = onnx.NodeProto()
        made.CopyFrom(node)
        made.input[:] = inputs
        made.output[:] = [self.name()]
        self.nodes.append(made)
        self.give(node.output[0], made.output[0])
