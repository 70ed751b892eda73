"""The file for TensorRT: learned layers in float16, geometry in float32, types in the graph.

A float32 graph is split by four rules; what none of them claims runs in float16.

1. What follows a graph input, up to the next learned layer (Conv, MatMul, Gemm), is float32:
   projection, rays, depth prior, image normalisation. So is what follows a sampler or a function
   with a wide range (`SENSITIVE`).
2. What leads to sampling locations and weights, to a comparison, to an index or to the logits,
   back to the learned layers, is float32.
3. What is computed from constants alone is float32 where a float32 node uses it.
4. Operators that only move data take float16 where float16 layers alone use what they give.

TensorRT builds such a file as strongly typed: precision is in the file, not in builder flags.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from cigocc_ros.core.errors import CigoccError
from cigocc_ros.export.graph import LEARNED, Graph, copied, replace_nodes
from cigocc_ros.export.sampling_function import is_sampling

# fmt: off
SENSITIVE = frozenset({
    'Exp', 'Log', 'Softmax', 'LogSoftmax', 'Sigmoid', 'Tanh', 'Sqrt', 'Reciprocal', 'Pow',
    'ReduceL2', 'CumSum', 'GridSample', 'Floor', 'Round', 'AveragePool'
})
MOVING = frozenset({
    'Cast', 'Concat', 'Expand', 'Gather', 'Identity', 'Pad', 'Reshape', 'Slice', 'Split',
    'Squeeze', 'Transpose', 'Unsqueeze'
})
# fmt: on
KEPT_FLOAT_INPUTS = {'Resize': (1, 2)}
"""Positions of inputs that are float32 whatever the type of the operator."""
FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
MAX_HALF = 65504.0


class PrecisionError(CigoccError, ValueError):
    """A graph cannot be turned into a mixed float16 one."""


def mixed_precision(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of a float32 model whose learned layers compute in float16.

    Inputs, outputs and local functions keep their types. Raises PrecisionError where a weight
    does not fit into float16.
    """
    mixed = copied(model)
    full = full_precision_nodes(model)
    _Rewriter(mixed.graph, float_values(model), full).run()
    onnx.checker.check_model(mixed, full_check=True)
    return mixed


def full_precision_nodes(model: onnx.ModelProto) -> set[int]:
    """Return the indices of the nodes of the graph that stay float32 (rules 1 to 4)."""
    rules = _Rules(model)
    full = rules.after_inputs_and_sensitive() | rules.decided
    full |= {i for i in rules.constant_nodes if rules.graph.users(i) & full}
    for index in reversed(range(len(rules.graph.nodes))):
        users = rules.graph.users(index)
        moves = rules.graph.nodes[index].op_type in MOVING and index not in rules.decided
        if moves and users and not users & full:
            full.discard(index)
    return full


def float_values(model: onnx.ModelProto) -> set[str]:
    """Return the names of all float32 values and initializers of the graph."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    values = (*graph.input, *graph.value_info, *graph.output)
    names = {v.name for v in values if v.type.tensor_type.elem_type == FLOAT}
    return names | {t.name for t in graph.initializer if t.data_type == FLOAT}


class _Rules:
    """The sets of nodes that the rules need."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = Graph(model.graph)
        self.floats = float_values(model)
        self.learned = self._learned()
        self.constant_nodes = self._constant()
        decisive = self.graph.decisive_values()
        self.decided = self.graph.upstream(decisive, self.learned.__contains__).passed
        """Rule 2."""

    def after_inputs_and_sensitive(self) -> set[int]:
        """Rule 1; nodes are in topological order, so one pass is enough.

        Indices and masks do not carry the type on: what they pick may be float16.
        """
        wide: set[str] = set()
        full = set()
        for i, node in enumerate(self.graph.nodes):
            if i in self.constant_nodes or i in self.learned:
                continue
            starts = is_sampling(node) or node.op_type in SENSITIVE or self._enters(node)
            if starts or any(name in wide for name in node.input):
                full.add(i)
                wide.update(name for name in node.output if name in self.floats)
        return full

    def _enters(self, node: onnx.NodeProto) -> bool:
        """Whether numbers enter here: from an input, or from bytes, counts or masks."""
        is_cast = node.op_type == 'Cast' and node.input[0] not in self.floats
        return is_cast or any(name in self.graph.inputs for name in node.input)

    def _learned(self) -> set[int]:
        """Layers with weights; a product with a matrix of the inputs is geometry, not a layer."""
        matrices = self.graph.inputs & self.floats
        for node in self.graph.nodes:
            if node.op_type in MOVING and any(name in matrices for name in node.input):
                matrices.update(node.output)
        return {
            i
            for i, node in enumerate(self.graph.nodes)
            if node.op_type == 'Conv'
            or (node.op_type in LEARNED and not matrices.intersection(node.input))
        }

    def _constant(self) -> set[int]:
        constant: set[int] = set()
        made: set[str] = set()
        for i, node in enumerate(self.graph.nodes):
            fed = [n for n in node.input if n in self.graph.inputs or n in self.graph.maker]
            if all(name in made for name in fed):
                constant.add(i)
                made.update(node.output)
        return constant


class _Rewriter:
    """Gives every node the inputs that its side needs: cast values, converted initializers."""

    def __init__(self, graph: onnx.GraphProto, floats: set[str], full: set[int]) -> None:
        self.graph, self.floats, self.full = graph, floats, full
        self.weights = {tensor.name: tensor for tensor in graph.initializer}
        self.half_values: set[str] = set()
        self.made: dict[str, str] = {}
        self.nodes: list[onnx.NodeProto] = []

    def run(self) -> None:
        for index, node in enumerate(self.graph.node):
            half = index not in self.full and not is_sampling(node)
            self._convert(node, half)
            self.nodes.append(node)
        replace_nodes(self.graph, self.nodes)

    def _convert(self, node: onnx.NodeProto, half: bool) -> None:
        kept = KEPT_FLOAT_INPUTS.get(node.op_type, ())
        for position, name in enumerate(node.input):
            if name in self.floats:
                node.input[position] = self._as(name, half and position not in kept)
        if not half:
            return
        _set_half_attributes(node)
        self.half_values.update(name for name in node.output if name in self.floats)

    def _as(self, name: str, half: bool) -> str:
        """Return the name under which a float value is there in the wanted type."""
        if name in self.weights:
            return self._half_weight(name) if half else name
        if half == (name in self.half_values):
            return name
        other = f'{name}__{"half" if half else "float"}'
        if other not in self.made:
            self.made[other] = name
            kind = HALF if half else FLOAT
            self.nodes.append(helper.make_node('Cast', [name], [other], f'cast_{other}', to=kind))
        return other

    def _half_weight(self, name: str) -> str:
        other = f'{name}__half'
        if other not in self.made:
            self.made[other] = name
            self.graph.initializer.append(half_tensor(self.weights[name], other))
        return other


def half_tensor(tensor: onnx.TensorProto, name: str) -> onnx.TensorProto:
    """Return a float32 tensor as float16; raise PrecisionError where a value overflows."""
    values = numpy_helper.to_array(tensor)
    largest = float(np.abs(values).max(initial=0.0))
    if not largest <= MAX_HALF:
        raise PrecisionError(f'weight {tensor.name}: {largest} does not fit into float16')
    return numpy_helper.from_array(values.astype(np.float16), name)


def _set_half_attributes(node: onnx.NodeProto) -> None:
    """Make attributes that state float32 as the type of the result state float16."""
    for attribute in node.attribute:
        if node.op_type == 'Cast' and attribute.name == 'to' and attribute.i == FLOAT:
            attribute.i = HALF
        if node.op_type in ('Constant', 'ConstantOfShape') and attribute.t.data_type == FLOAT:
            attribute.t.CopyFrom(half_tensor(attribute.t, attribute.t.name))
