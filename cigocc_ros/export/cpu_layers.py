"""Layers in the words that ONNX Runtime computes faster on a CPU; see `cpu_rewrites`.

Its layer norm sums number by number (3.1 ms for 8192 rows of 64 channels, 1.6 ms in plain
operators), the sum of a matrix product and a bias writes the bias first (8.1 and 5.3 ms for 32768
rows), and its blocked convolution takes multiples of four channels only.
"""

from __future__ import annotations

from math import prod

import numpy as np
import onnx
from onnx import numpy_helper

from cigocc_ros.export.cpu_layouts import Shapes
from cigocc_ros.export.graph import Graph, replace_nodes
from cigocc_ros.export.graph_writer import GraphWriter

_BLOCK = 4
_MANY_ROWS = 16384
"""From about here on a product is larger than a core's cache."""


def write_out_norms(graph: onnx.GraphProto, _: Shapes) -> int:
    """Write layer norms over the last axis in plain operators, in place; return how many."""
    writer = GraphWriter(graph, 'norm')
    count = 0
    for node in graph.node:
        axis = next((a.i for a in node.attribute if a.name == 'axis'), -1)
        fits = len(node.input) == 3 and len(node.output) == 1 and axis == -1
        if node.op_type != 'LayerNormalization' or not fits:
            writer.nodes.append(node)
            continue
        _write_norm(writer, node)
        count += 1
    replace_nodes(graph, writer.nodes)
    return count


def _write_norm(writer: GraphWriter, node: onnx.NodeProto) -> None:
    value, scale, shift = node.input
    epsilon = next((a.f for a in node.attribute if a.name == 'epsilon'), 1e-5)
    last = writer.numbers(-1)
    mean = writer.make('ReduceMean', [value, last], keepdims=1)
    centered = writer.make('Sub', [value, mean])
    # Not the mean of squares: the runtime would make a layer norm of it again.
    squares = writer.make('ReduceSumSquare', [centered, last], keepdims=1)
    share = 1 / prod(writer.look.weights[scale].dims)
    variance = writer.make('Mul', [squares, writer.constant(np.array(share, np.float32))])
    stable = writer.make('Add', [variance, writer.constant(np.array(epsilon, np.float32))])
    unit = writer.make('Div', [centered, writer.make('Sqrt', [stable])])
    writer.make('Add', [writer.make('Mul', [unit, scale]), shift], node.output[0])


def keep_biases_apart(graph: onnx.GraphProto, shapes: Shapes) -> int:
    """Give biases of products of many rows three axes, which no Gemm takes; return how many."""
    look = Graph(graph)
    count = 0
    for node in graph.node:
        for i, name in enumerate(node.input) if node.op_type == 'Add' else ():
            product = look.made_by(node.input[1 - i])
            bias = look.weights.get(name)
            shape = shapes.get(node.output[0], ())
            plain = bias is not None and len(bias.dims) == 1 and len(shape) == 3
            if product is None or product.op_type != 'MatMul' or bias is None or not plain:
                continue
            if prod(shape[:2]) >= _MANY_ROWS:
                count += 1
                values = numpy_helper.to_array(bias).reshape(1, 1, -1)
                made = f'{name}__wide_{count}'
                graph.initializer.append(numpy_helper.from_array(values, made))
                node.input[i] = made
    return count


def fill_channels(graph: onnx.GraphProto, shapes: Shapes) -> int:
    """Add channels of zeros to what is joined for a 2D convolution; return how often."""
    look = Graph(graph)
    count = 0
    for node in graph.node:
        if node.op_type != 'Conv':
            continue
        weight = look.weights.get(node.input[1])
        joined = look.made_by(node.input[0])
        shape = shapes.get(node.input[0], ())
        if weight is None or joined is None or joined.op_type != 'Concat' or len(shape) != 4:
            continue
        axis = next(a.i for a in joined.attribute if a.name == 'axis')
        missing = -shape[1] % _BLOCK
        if (
            axis != 1
            or not missing
            or weight.dims[1] != shape[1]
            or look.uses(joined.output[0]) > 1
        ):
            continue
        values = numpy_helper.to_array(weight)
        wide = np.pad(values, [(0, 0), (0, missing)] + [(0, 0)] * 2)
        zeros = np.zeros((shape[0], missing, *shape[2:]), np.float32)
        for key, array in (('weight', wide), ('zeros', zeros)):
            graph.initializer.append(numpy_helper.from_array(array, f'filled{count}_{key}'))
        node.input[1] = f'filled{count}_weight'
        joined.input.append(f'filled{count}_zeros')
        del graph.value_info[:]
        count += 1
    return count
