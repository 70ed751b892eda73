"""Equal graphs that ONNX Runtime computes faster on a CPU; `benchmark/graph_rewrites.py` says how.

For the float32 file alone. Its 3D convolution is an im2col with poor locality, its 2D convolution
is blocked for the cache: a volume of few Z levels is convolved as a batch of Z images whose
channels are those of three neighbouring levels. And an element-wise division by a vector of two or
three numbers is computed element by element: it is folded into the linear layer before it. Two
more are in `cpu_layouts`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from cigocc_ros.export.cpu_layouts import (
    Shapes,
    flatten_additions,
    split_transposes,
    static_shapes,
)
from cigocc_ros.export.graph import Graph, copied, replace_nodes

_TO_SLICES, _TO_VOLUME = [3, 0, 1, 2], [1, 2, 3, 0]


def rewrite_for_cpu(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy with all rewrites; what fits no pattern stays."""
    copy = copied(model)
    shapes = static_shapes(model)
    fold_divisions(copy.graph)
    flatten_additions(copy.graph, shapes)
    split_transposes(copy.graph, shapes)
    slice_convolutions(copy.graph, shapes)
    onnx.checker.check_model(copy, full_check=True)
    return copy


def slice_convolutions(graph: onnx.GraphProto, shapes: Shapes) -> int:
    """Turn 3x3x3 convolutions of one volume into 2D ones in place; return how many."""
    weights = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    count = 0
    for node in graph.node:
        shape = shapes.get(node.input[0]) if _is_plain_conv3d(node, weights) else None
        if shape is None:
            nodes.append(node)
            continue
        nodes += _sliced(graph, node, weights[node.input[1]], shape, f'slices{count}')
        count += 1
    replace_nodes(graph, nodes)
    return count


def fold_divisions(graph: onnx.GraphProto) -> int:
    """Fold Div(Reshape(linear layer), vector) into the layer's weights; return how many."""
    look = Graph(graph)
    folded: dict[str, str] = {}
    for node in look.nodes:
        chain = _linear_chain(node, look)
        if chain is None or node.output[0] in look.outputs:
            continue
        reshape, *layers = chain
        divisor = numpy_helper.to_array(look.weights[node.input[1]])
        for layer in layers:
            _divide(graph, layer, divisor, look.weights, node.name)
        folded[node.output[0]] = reshape.output[0]
    kept = [node for node in graph.node if node.output[0] not in folded]
    for node in kept:
        for i, name in enumerate(node.input):
            node.input[i] = folded.get(name, name)
    replace_nodes(graph, kept)
    return len(folded)


def _divide(
    graph: onnx.GraphProto,
    layer: onnx.NodeProto,
    divisor: NDArray[Any],
    weights: dict[str, onnx.TensorProto],
    name: str,
) -> None:
    """Give a layer its weights, or its bias, divided by a vector that repeats along the last."""
    position = next(i for i, value in enumerate(layer.input) if value in weights)
    tensor = weights[layer.input[position]]
    values = numpy_helper.to_array(tensor)
    scaled = values / np.tile(divisor, values.shape[-1] // len(divisor))
    made = f'{tensor.name}__divided_{name}'
    graph.initializer.append(numpy_helper.from_array(scaled.astype(np.float32), made))
    layer.input[position] = made


def _is_plain_conv3d(node: onnx.NodeProto, weights: dict[str, onnx.TensorProto]) -> bool:
    if node.op_type != 'Conv' or node.input[1] not in weights:
        return False
    ones = all(
        list(attribute.ints) == [1] * len(attribute.ints)
        for attribute in node.attribute
        if attribute.name in ('pads', 'dilations')
    )
    group = next((a.i for a in node.attribute if a.name == 'group'), 1)
    padded = any(a.name == 'pads' for a in node.attribute)
    return list(weights[node.input[1]].dims[2:]) == [3, 3, 3] and ones and padded and group == 1


def _sliced(
    graph: onnx.GraphProto,
    conv: onnx.NodeProto,
    weight: onnx.TensorProto,
    shape: tuple[int, ...],
    name: str,
) -> list[onnx.NodeProto]:
    """Return the nodes that replace one convolution of (1, C, X, Y, Z)."""
    stride = next((list(a.ints) for a in conv.attribute if a.name == 'strides'), [1, 1, 1])
    values = numpy_helper.to_array(weight)  # (O, C, 3, 3, 3)
    flat = values.transpose(0, 4, 1, 2, 3).reshape(values.shape[0], -1, 3, 3)
    channels, levels = shape[1], shape[4]
    taken = np.arange(0, levels, stride[2])[:, None] + [-1, 0, 1]
    taken[taken < 0] = levels  # the level of zeros, which is also the one above the last
    constants = {
        'weight': np.ascontiguousarray(flat),
        'pads': np.array([0, 0, 0, 0, 1, 0, 0, 0]),
        'zero': np.array([0]),
        'taken': taken.ravel(),
        'joined': np.array([len(taken), 3 * channels, *shape[2:4]]),
    }
    for key, array in constants.items():
        graph.initializer.append(numpy_helper.from_array(array, f'{name}_{key}'))

    def make(kind: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
        names = [f'{name}_{key}' for key in inputs.split()]
        return helper.make_node(
            kind, names, [f'{name}_{output}'], f'{name}_{output}', **attributes
        )

    first = make('Squeeze', 'x zero', 'volume')
    first.input[0] = conv.input[0]
    core = make('Conv', 'neighbours weight', 'convolved', pads=[1] * 4, strides=stride[:2])
    core.input.extend(conv.input[2:])
    last = make('Unsqueeze', 'raised zero', 'y')
    last.output[0] = conv.output[0]
    return [
        first,
        make('Transpose', 'volume', 'stack', perm=_TO_SLICES),
        make('Pad', 'stack pads', 'padded'),
        make('Gather', 'padded taken', 'levels', axis=0),
        make('Reshape', 'levels joined', 'neighbours'),
        core,
        make('Transpose', 'convolved', 'raised', perm=_TO_VOLUME),
        last,
    ]


def _linear_chain(node: onnx.NodeProto, look: Graph) -> list[onnx.NodeProto] | None:
    """Return (Reshape, Add, MatMul) where `node` divides their result by a short vector."""
    weights = look.weights
    if node.op_type != 'Div' or len(weights.get(node.input[1], _SCALAR).dims) != 1:
        return None
    chain = []
    name = node.input[0]
    for kind in ('Reshape', 'Add', 'MatMul'):
        maker = look.made_by(name)
        if maker is None or maker.op_type != kind or look.uses(name) != 1:
            return None
        chain.append(maker)
        name = next((n for n in maker.input if n not in weights), '')
    size = weights[node.input[1]].dims[0]
    own = [[weights[name] for name in layer.input if name in weights] for layer in chain[1:]]
    fits = all(len(tensors) == 1 and not tensors[0].dims[-1] % size for tensors in own)
    return chain if fits else None


_SCALAR = onnx.TensorProto()
