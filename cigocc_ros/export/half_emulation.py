"""What float16 does to the labels, computed on a CPU.

ONNX Runtime computes float16 graphs on a CPU in float32 and drops casts between operators, so it
hides most of the rounding. Here every float16 value is rounded on purpose, by float32 arithmetic
that no optimiser removes: with r = x * (2**13 + 1), r - (r - x) has the 11 significant bits of
float16 (Veltkamp's splitting). Values below 2**-14 keep more bits than float16 would; values above
65504 stay finite, which `with_ranges` shows. Sums inside a layer stay float32, as on tensor cores.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from cigocc_ros.export.graph import copied, replace_nodes

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
SPLIT = 2.0**13 + 1.0
RANGES = 'half_ranges'
EXTREMES = ('ReduceMin', 'ReduceMax')


def emulated(mixed: onnx.ModelProto) -> onnx.ModelProto:
    """Return a float32 model that rounds wherever `mixed` has a float16 value."""
    model = copied(mixed)
    half = set(half_values(mixed))
    graph = model.graph
    for tensor in graph.initializer:
        if tensor.data_type == HALF:
            values = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    factor = numpy_helper.from_array(np.array(SPLIT, np.float32), 'emulation_split')
    nodes = []
    for node in graph.node:
        _to_float(node)
        rounded = [name for name in node.output if name in half]
        for position, name in enumerate(node.output):
            if name in half:
                node.output[position] = f'{name}__exact'
        nodes.append(node)
        nodes += [step for name in rounded for step in _rounding(name, factor.name)]
    graph.initializer.append(factor)
    replace_nodes(graph, nodes)
    onnx.checker.check_model(model, full_check=True)
    return model


def half_values(mixed: onnx.ModelProto) -> list[str]:
    """Return the names of all computed float16 values, in the order of the graph."""
    graph = onnx.shape_inference.infer_shapes(mixed).graph
    half = {v.name for v in graph.value_info if v.type.tensor_type.elem_type == HALF}
    return [name for node in graph.node for name in node.output if name in half]


def with_ranges(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """Return a copy that also gives `RANGES` (2, N): least and greatest of each named value.

    A value's range is computed right after it, so that its memory can go.
    """
    copy = copied(model)
    graph = copy.graph
    wanted, nodes = set(names), []
    for node in graph.node:
        nodes.append(node)
        nodes += [step for name in node.output if name in wanted for step in _range(name)]
    rows = [f'{RANGES}__{kind}' for kind in EXTREMES]
    for kind, row in zip(EXTREMES, rows, strict=True):
        parts = [f'{name}__{kind}__2' for name in names]
        nodes.append(helper.make_node('Concat', parts, [row], axis=1))
    nodes.append(helper.make_node('Concat', rows, [RANGES], axis=0))
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.append(numpy_helper.from_array(np.array([0, 1]), 'range_axes'))
    graph.output.append(helper.make_tensor_value_info(RANGES, FLOAT, None))
    return copy


def _range(name: str) -> Iterator[onnx.NodeProto]:
    for kind in EXTREMES:
        part = f'{name}__{kind}'
        yield helper.make_node(kind, [name], [part], keepdims=0)
        yield helper.make_node('Unsqueeze', [part, 'range_axes'], [f'{part}__2'])


def _rounding(name: str, factor: str) -> list[onnx.NodeProto]:
    exact = f'{name}__exact'
    return [
        helper.make_node('Mul', [exact, factor], [f'{name}__scaled']),
        helper.make_node('Sub', [f'{name}__scaled', exact], [f'{name}__rest']),
        helper.make_node('Sub', [f'{name}__scaled', f'{name}__rest'], [name]),
    ]


def _to_float(node: onnx.NodeProto) -> None:
    for attribute in node.attribute:
        if node.op_type == 'Cast' and attribute.name == 'to' and attribute.i == HALF:
            attribute.i = FLOAT
        if attribute.t.data_type == HALF:
            values = numpy_helper.to_array(attribute.t).astype(np.float32)
            attribute.t.CopyFrom(numpy_helper.from_array(values, attribute.t.name))
