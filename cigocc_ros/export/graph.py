"""Who makes and who uses the values of an ONNX graph, and how its nodes are replaced.

`onnx_ir` has the same notions, but does not write the bytes that it read: it adds types of values
and rewrites functions. Here a file stays what it was where no rule changes it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple

import onnx
import onnx.inliner

from cigocc_ros.export.sampling_function import is_sampling

LEARNED = frozenset({'Conv', 'MatMul', 'Gemm'})
DECIDING = frozenset(
    {'Greater', 'GreaterOrEqual', 'Less', 'LessOrEqual', 'Equal', 'ArgMax', 'Floor', 'Round'}
)


class Upstream(NamedTuple):
    """Indices of the nodes that lead to some values, and of those at which the way ended."""

    passed: set[int]
    reached: set[int]


class Graph:
    """A look at a graph as it is now; nodes are known by their place in it."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        """Note makers and users of every value."""
        self.nodes = list(graph.node)
        self.weights = {tensor.name: tensor for tensor in graph.initializer}
        self.inputs = {value.name for value in graph.input}
        self.outputs = {value.name for value in graph.output}
        self.maker = {name: i for i, node in enumerate(self.nodes) for name in node.output}
        self._users: dict[str, list[int]] = defaultdict(list)
        for index, node in enumerate(self.nodes):
            for name in node.input:
                self._users[name].append(index)

    def made_by(self, name: str) -> onnx.NodeProto | None:
        """Return the node that makes a value; None of an input, a weight or nothing."""
        index = self.maker.get(name)
        return None if index is None else self.nodes[index]

    def users(self, index: int) -> set[int]:
        """Return the nodes that use what a node makes."""
        return {user for name in self.nodes[index].output for user in self._users.get(name, ())}

    def uses(self, name: str) -> int:
        """Return how often a value is used, as an output of the graph too."""
        return len(self._users.get(name, ())) + (name in self.outputs)

    def upstream(self, names: Iterable[str], ends: Callable[[int], bool]) -> Upstream:
        """Go up from values to the nodes that make them, up to those at which the way `ends`."""
        wanted = list(names)
        found = Upstream(set(), set())
        while wanted:
            index = self.maker.get(wanted.pop())
            if index is None or index in found.passed or index in found.reached:
                continue
            if ends(index):
                found.reached.add(index)
            else:
                found.passed.add(index)
                wanted += self.nodes[index].input
        return found

    def decisive_values(self) -> list[str]:
        """Return the values that decide: outputs, what is compared, where and how one samples."""
        wanted = list(self.outputs)
        for node in self.nodes:
            if is_sampling(node):
                wanted += node.input[3:5]
            elif node.op_type == 'GridSample':
                wanted.append(node.input[1])
            elif node.op_type in DECIDING:
                wanted += node.input
        return wanted


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of a model, to be changed."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def replace_nodes(graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto]) -> None:
    """Set the nodes, drop initializers that nothing uses and types of values that are gone."""
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    keep_initializers(graph, used | {value.name for value in graph.output})
    del graph.value_info[:]


def drop_unused(graph: onnx.GraphProto) -> None:
    """Drop, in place, the nodes that lead to no output."""
    outputs = [output.name for output in graph.output]
    alive = Graph(graph).upstream(outputs, ends=lambda _: False).passed
    if len(alive) < len(graph.node):
        replace_nodes(graph, [graph.node[index] for index in sorted(alive)])


def portable(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy with local functions written out: OpenVINO refuses their domain."""
    flat: onnx.ModelProto = onnx.inliner.inline_local_functions(proto)
    own_opset_only(flat)
    return flat


def keep_initializers(graph: onnx.GraphProto, names: Collection[str]) -> None:
    """Drop the other ones, in place: they can be hundreds of megabytes."""
    for index in reversed(range(len(graph.initializer))):
        if graph.initializer[index].name not in names:
            del graph.initializer[index]


def own_opset_only(model: onnx.ModelProto) -> None:
    """Drop the domains of functions that have been written out."""
    own = [entry for entry in model.opset_import if entry.domain == '']
    del model.opset_import[:]
    model.opset_import.extend(own)
