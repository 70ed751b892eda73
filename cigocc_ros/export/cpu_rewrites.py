"""Equal graphs that ONNX Runtime computes faster on a CPU; `benchmark/graph_rewrites.py` says how.

For the float32 file alone. Volumes become stacks of images and their convolutions 2D ones with
fewer products (`cpu_stacks`, `cpu_winograd`), samplers get few points at a time (`cpu_sampling`),
short inner loops become long ones (`cpu_layouts`), layers get other words (`cpu_layers`). Here:
an element-wise division by a vector of two or three numbers is computed element by element; it is
folded into the linear layer before it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from cigocc_ros.export.cpu_layers import fill_channels, keep_biases_apart, write_out_norms
from cigocc_ros.export.cpu_layouts import (
    Shapes,
    flatten_additions,
    split_transposes,
    static_shapes,
)
from cigocc_ros.export.cpu_sampling import split_samplers, write_out_sampling
from cigocc_ros.export.cpu_stacks import stack_volumes
from cigocc_ros.export.graph import Graph, copied, drop_unused, portable, replace_nodes


def rewrite_for_cpu(
    model: onnx.ModelProto, names: Collection[str] | None = None
) -> onnx.ModelProto:
    """Return a copy with all rewrites, or those of `names` alone, and functions written out.

    What fits no pattern stays. Values that the rewritten graph does not need are dropped.
    """
    copy, shapes = copied(model), static_shapes(model)
    for with_functions in (True, False):
        if not with_functions:
            copy = portable(copy)
        for name, rewrite in REWRITES.items():
            if (name in _WITH_FUNCTIONS) == with_functions and (names is None or name in names):
                # What an operator of ours gives is known where it was exported, and only there.
                shapes |= static_shapes(copy)
                rewrite(copy.graph, shapes)
    drop_unused(copy.graph)
    onnx.checker.check_model(copy, full_check=True)
    return copy


def fold_divisions(graph: onnx.GraphProto, _: Shapes) -> int:
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

Rewrite = Callable[[onnx.GraphProto, Shapes], int]
REWRITES: dict[str, Rewrite] = {
    'divisions': fold_divisions,
    'additions': flatten_additions,
    'attention': write_out_sampling,
    'transposes': split_transposes,
    'volumes': stack_volumes,
    'samplers': split_samplers,
    'norms': write_out_norms,
    'biases': keep_biases_apart,
    'channels': fill_channels,
}
"""In their order."""
_WITH_FUNCTIONS = frozenset({'divisions', 'additions', 'attention'})
"""Those done while deformable sampling is still one operator."""
