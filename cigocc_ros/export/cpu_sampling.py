"""Sampling in pieces that fit the cache of a CPU; see `cpu_rewrites`.

ONNX Runtime's GridSample first writes down, in one thread, where each point lies (56 bytes of it),
then reads that for every channel (onnxruntime/core/providers/cpu/tensor/grid_sample.cc,
PrecomputeBilinearSamplePlan2D): with more than a few thousand points it waits for memory. In
deformable attention each point of the queries is sampled for itself, so that weights multiply long
rows and sums are of long rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

from cigocc_ros.export.cpu_layouts import Shapes
from cigocc_ros.export.graph import Graph, replace_nodes
from cigocc_ros.export.graph_writer import GraphWriter
from cigocc_ros.export.sampling_function import is_sampling

MAX_POINTS = 4096
"""Points whose places are written down at once: 230 kB."""
_SAMPLER: dict[str, Any] = {'mode': 'bilinear', 'padding_mode': 'zeros', 'align_corners': 0}


class _Sizes(NamedTuple):
    """Of one call of the operator, whose batch is 1."""

    heads: int
    depth: int
    queries: int
    points: int
    height: int
    width: int


def write_out_sampling(graph: onnx.GraphProto, shapes: Shapes) -> int:
    """Replace calls of deformable sampling in place, where sizes are known; return how many."""
    writer = _Writer(graph, 'attended')
    count = 0
    for node in graph.node:
        sizes = _sizes(node, shapes, writer.look) if is_sampling(node) else None
        if sizes is None:
            writer.nodes.append(node)
            continue
        writer.attend(node, sizes, shapes)
        count += 1
    replace_nodes(graph, writer.nodes)
    return count


def split_samplers(graph: onnx.GraphProto, shapes: Shapes) -> int:
    """Sample many points of one image in pieces, in place; return how many nodes were split."""
    writer = _Writer(graph, 'piece')
    count = 0
    for node in graph.node:
        grid = shapes.get(node.input[1], ()) if node.op_type == 'GridSample' else ()
        if len(grid) != 4 or grid[0] != 1 or grid[1] * grid[2] <= MAX_POINTS or grid[1] < 2:
            writer.nodes.append(node)
            continue
        writer.sample_in_pieces(node, grid[1], max(MAX_POINTS // grid[2], 1))
        count += 1
    replace_nodes(graph, writer.nodes)
    return count


def _sizes(node: onnx.NodeProto, shapes: Shapes, look: Graph) -> _Sizes | None:
    value, map_shape, _, locations, _ = node.input
    known = value in shapes and locations in shapes and map_shape in look.weights
    if not known or shapes[value][0] != 1:
        return None
    _, _, heads, depth = shapes[value]
    _, queries, _, _, points, _ = shapes[locations]
    height, width = numpy_helper.to_array(look.weights[map_shape]).ravel().tolist()
    return _Sizes(heads, depth, queries, points, height, width)


def _pieces(count: int, most: int) -> list[int]:
    """Return sizes of at most `most` that sum up to `count`, as equal as can be."""
    return [len(part) for part in np.array_split(np.arange(count), -(-count // most))]


class _Writer(GraphWriter):
    """Writes samplers of fewer points."""

    def attend(self, node: onnx.NodeProto, sizes: _Sizes, shapes: Shapes) -> None:
        """Write one call: every point of every piece of the queries, weighted and added."""
        heads, depth, queries, points, height, width = sizes
        columns = self.make('Transpose', [node.input[0]], perm=[0, 2, 3, 1])
        image = self.reshape(columns, (heads, depth, height, width))
        pieces = _pieces(queries, MAX_POINTS)
        grids = self._grids(self._unexpanded(node.input[3], shapes), sizes, pieces)
        rows = self.reshape(node.input[4], (queries, heads * points))
        turned = self.make('Transpose', [rows], perm=[1, 0])  # (M P, Q)
        by_head = self.reshape(turned, (heads, points, queries))
        parts = []
        for piece, weights in enumerate(self.split(by_head, pieces, 2)):
            each = self.split(weights, [1] * points, 1)
            total = ''
            for point in range(points):
                grid = grids[piece][point]
                sampled = self.make('GridSample', [image, grid], **_SAMPLER)
                weight = self.reshape(each[point], (heads, 1, 1, pieces[piece]))
                part = self.make('Mul', [sampled, weight])
                total = self.make('Add', [total, part]) if total else part
            parts.append(self.reshape(total, (heads * depth, pieces[piece])))
        joined = self.make('Concat', parts, axis=1) if len(parts) > 1 else parts[0]
        found = self.make('Transpose', [joined], perm=[1, 0])
        self.reshape(found, (1, queries, heads, depth), node.output[0])

    def _grids(self, locations: str, sizes: _Sizes, pieces: Sequence[int]) -> list[list[str]]:
        """Return the places (M, 1, q, 2) in -1..1, of every piece of every point."""
        heads, queries, points = sizes.heads, sizes.queries, sizes.points
        rows = self.reshape(locations, (queries, heads * points * 2))
        doubled = self.make('Mul', [rows, self.constant(np.array(2.0, np.float32))])
        centered = self.make('Sub', [doubled, self.constant(np.array(1.0, np.float32))])
        split = self.reshape(centered, (queries, heads, points, 2))
        turned = self.make('Transpose', [split], perm=[1, 2, 0, 3])  # (M, P, Q, 2)
        return [self.split(part, [1] * points, 1) for part in self.split(turned, pieces, 2)]

    def _unexpanded(self, locations: str, shapes: Shapes) -> str:
        """Return what is sliced from a repetition: locations that several maps share."""
        cut = self.look.made_by(locations)
        if cut is None or cut.op_type != 'Slice':
            return locations
        repeated = self.look.made_by(cut.input[0])
        if repeated is None or repeated.op_type != 'Expand':
            return locations
        same = shapes.get(repeated.input[0]) == shapes[locations]
        return repeated.input[0] if same else locations

    def sample_in_pieces(self, node: onnx.NodeProto, rows: int, most: int) -> None:
        """Write a sampler row by row."""
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        pieces = self.split(node.input[1], _pieces(rows, most), 1)
        parts = [self.make('GridSample', [node.input[0], p], **attributes) for p in pieces]
        self.make('Concat', parts, node.output[0], axis=2)
