"""Equal data movements that ONNX Runtime does faster on a CPU; see `cpu_rewrites`.

Its transposition of many axes moves element by element, in one thread: that of 2x2x2 subvoxels
becomes three, each of which moves one axis past others. And adding a reference point to the
offsets of every head and point, or dividing them by the size of a map, loops over two or three
numbers at a time: what is the same for all is repeated along the channels before the offsets are
split, so that whole rows are computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np
import onnx
from onnx import helper, numpy_helper

from cigocc_ros.export.graph import Graph, replace_nodes

Shapes = Mapping[str, tuple[int, ...]]
TO_SPACE, TO_CHANNELS = [0, 1, 5, 2, 6, 3, 7, 4], [0, 1, 3, 5, 7, 2, 4, 6]
"""Axes of (1, C, 2, 2, 2, X, Y, Z) -> (1, C, X, 2, Y, 2, Z, 2), and back."""
_WITH_ROWS = frozenset({'Add', 'Mul', 'Div', 'Sub'})
_LEAST_RANK, _SHORT = 5, 3
"""Of offsets (B, Q, M, ..., P, D) and the most numbers D that lie beside each other."""


def static_shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all values whose sizes are known."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    shapes = {}
    for value in (*graph.value_info, *graph.input, *graph.output):
        sizes = [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        if sizes and all(sizes):
            shapes[value.name] = tuple(sizes)
    return shapes


def split_transposes(graph: onnx.GraphProto, shapes: Shapes) -> int:
    """Turn transpositions of subvoxels into three simple ones in place; return how many."""
    nodes: list[onnx.NodeProto] = []
    count = 0
    for node in graph.node:
        moves = _moves(node, shapes)
        if not moves:
            nodes.append(node)
            continue
        nodes += _moved(graph, node, moves, f'moved{count}')
        count += 1
    replace_nodes(graph, nodes)
    return count


def flatten_additions(graph: onnx.GraphProto, shapes: Shapes) -> int:
    """Compute with whole rows before they are split into heads and points; return how often."""
    count, known = 0, dict(shapes)
    while _flatten_once(graph, known, f'row{count}'):
        count += 1
    return count


def _flatten_once(graph: onnx.GraphProto, shapes: dict[str, tuple[int, ...]], name: str) -> bool:
    look = Graph(graph)
    for index, node in enumerate(look.nodes):
        for split_at in (0, 1) if node.op_type in _WITH_ROWS else ():
            split = look.made_by(node.input[split_at])
            other = node.input[1 - split_at]
            if split is None or split.op_type != 'Reshape' or split.input[0] not in shapes:
                continue
            if not _repeats(other, node.input[split_at], split.input[0], shapes, look):
                continue
            made = _flattened(graph, node, split, other, shapes, name)
            shapes[f'{name}_made'] = shapes[split.input[0]]
            nodes = look.nodes
            replace_nodes(graph, [*nodes[:index], *made, *nodes[index + 1 :]])
            return True
    return False


def _moves(node: onnx.NodeProto, shapes: Shapes) -> list[tuple[tuple[int, ...], list[int] | None]]:
    """Return views and permutations of them that together are this transposition, or nothing."""
    shape = shapes.get(node.input[0]) if node.op_type == 'Transpose' else None
    axes = next((list(a.ints) for a in node.attribute if a.name == 'perm'), [])
    if shape is None or len(shape) != 8:
        return []
    if axes == TO_SPACE and shape[2:5] == (2, 2, 2):
        batch, channels, _, _, _, x, y, z = shape
        n = batch * channels
        return [
            ((4 * n, 2, x * y * z), [0, 2, 1]),
            ((2 * n, 2, x * y, 2 * z), [0, 2, 1, 3]),
            ((n, 2, x, 4 * y * z), [0, 2, 1, 3]),
            ((batch, channels, x, 2, y, 2, z, 2), None),
        ]
    if axes == TO_CHANNELS and (shape[3], shape[5], shape[7]) == (2, 2, 2):
        batch, channels, x, _, y, _, z, _ = shape
        n = batch * channels
        return [
            ((n, x, 2, 4 * y * z), [0, 2, 1, 3]),
            ((2 * n, x * y, 2, 2 * z), [0, 2, 1, 3]),
            ((4 * n, x * y * z, 2), [0, 2, 1]),
            ((batch, channels, 2, 2, 2, x, y, z), None),
        ]
    return []


def _moved(
    graph: onnx.GraphProto,
    node: onnx.NodeProto,
    moves: Sequence[tuple[tuple[int, ...], list[int] | None]],
    name: str,
) -> list[onnx.NodeProto]:
    """Return the nodes that replace one transposition."""
    made, current = [], node.input[0]
    for index, (shape, axes) in enumerate(moves):
        last = axes is None
        view = node.output[0] if last else f'{name}_view{index}'
        made.append(_reshape(graph, current, shape, view, f'{name}_shape{index}'))
        if not last:
            current = f'{name}_turned{index}'
            made.append(helper.make_node('Transpose', [view], [current], current, perm=axes))
    return made


def _shape_of(value: str, shapes: Shapes, look: Graph) -> tuple[int, ...]:
    """Return the shape of a value or a weight, () where it is not known."""
    weight = look.weights.get(value)
    return shapes.get(value, ()) if weight is None else tuple(weight.dims)


def _repeats(value: str, parts: str, rows: str, shapes: Shapes, look: Graph) -> bool:
    """Return whether a value is the same for all heads and points of a row, or of all rows."""
    shape = _shape_of(value, shapes, look)
    split, whole = shapes.get(parts, ()), shapes[rows]
    if len(split) < _LEAST_RANK or len(whole) != 3 or not shape or split[:2] != whole[:2]:
        return False
    if split[-1] > _SHORT or shape[-1] != split[-1] or len(shape) > len(split):
        return False
    padded = (*[1] * (len(split) - len(shape)), *shape)
    return set(padded[2:-1]) == {1} and padded[:2] in ((1, 1), split[:2])


def _flattened(
    graph: onnx.GraphProto,
    node: onnx.NodeProto,
    split: onnx.NodeProto,
    other: str,
    shapes: Shapes,
    name: str,
) -> list[onnx.NodeProto]:
    """Return the nodes that compute with rows (B, Q, M * P * D), then split."""
    batch, queries, *heads_and_points, axes = shapes[split.output[0]]
    whole = prod(_shape_of(other, shapes, Graph(graph))) == batch * queries * axes
    shape = (batch, queries, axes) if whole else (1, 1, axes)
    repeats = np.array([1, 1, prod(heads_and_points)])
    graph.initializer.append(numpy_helper.from_array(repeats, f'{name}_repeats'))
    tiled = f'{name}_tiled'
    inputs = [split.input[0] if i == split.output[0] else tiled for i in node.input]
    return [
        _reshape(graph, other, shape, f'{name}_flat', f'{name}_shape'),
        helper.make_node('Tile', [f'{name}_flat', f'{name}_repeats'], [tiled], tiled),
        helper.make_node(node.op_type, inputs, [f'{name}_made'], f'{name}_made'),
        _reshape(
            graph,
            f'{name}_made',
            (batch, queries, *heads_and_points, axes),
            node.output[0],
            f'{name}_split',
        ),
    ]


def _reshape(
    graph: onnx.GraphProto, value: str, shape: Sequence[int], output: str, name: str
) -> onnx.NodeProto:
    if prod(shape) <= 0:
        raise ValueError(f'{name}: a static shape expected, found {shape}')
    graph.initializer.append(numpy_helper.from_array(np.array(shape, np.int64), name))
    return helper.make_node('Reshape', [value, name], [output], f'{name}_reshape')
