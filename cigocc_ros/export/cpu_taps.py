"""Takes convolutions back to plain products, for eight bits.

What `cpu_winograd` multiplies are differences of levels, and what it gives are differences of
products: with eight bits `tiny`, of random weights, kept 74 % of its labels.
"""

from __future__ import annotations

import onnx
from onnx import numpy_helper

from cigocc_ros.export.cpu_winograd import FILTERED, neighbours, taps_of
from cigocc_ros.export.graph import copied, drop_unused, replace_nodes
from cigocc_ros.export.graph_writer import GraphWriter


def without_filters(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy in which every level is convolved with its neighbours."""
    copy = copied(model)
    writer = GraphWriter(copy.graph, 'taps')
    ends = {_after(writer, i, 3): i for i in range(len(writer.look.nodes)) if _is_one(writer, i)}
    for index, node in enumerate(writer.look.nodes):
        if index in ends:
            _write_plain(writer, writer.look.nodes[ends[index]], node.output[0])
        else:
            writer.nodes.append(node)
    replace_nodes(copy.graph, writer.nodes)
    drop_unused(copy.graph)
    onnx.checker.check_model(copy, full_check=True)
    return copy


def _is_one(writer: GraphWriter, index: int) -> bool:
    return str(writer.look.nodes[index].name).startswith(FILTERED)


def _after(writer: GraphWriter, index: int, steps: int) -> int:
    """Return the node that lies `steps` behind another: each has one user."""
    for _ in range(steps):
        (index,) = writer.look.users(index)
    return index


def _write_plain(writer: GraphWriter, conv: onnx.NodeProto, output: str) -> None:
    """Write the convolution of a view of combined levels anew, from those levels."""
    look = writer.look
    view = look.nodes[look.maker[conv.input[0]]]
    combined = look.nodes[look.maker[view.input[0]]]
    levels = look.weights[combined.input[0]].dims[1]
    groups = next(a.i for a in conv.attribute if a.name == 'group')
    weight = taps_of(numpy_helper.to_array(look.weights[conv.input[1]]), groups)
    way = neighbours(weight, levels, 1)
    size = numpy_helper.to_array(look.weights[view.input[1]])[2:].tolist()
    taken = writer.make('MatMul', [writer.constant(way.taken.astype('f4')), combined.input[1]])
    joined = writer.reshape(taken, (levels, way.weight.shape[1], *size))
    writer.make('Conv', [joined, writer.constant(way.weight)], output, pads=[1] * 4)
