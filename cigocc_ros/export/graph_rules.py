"""What an exported graph must and must not contain; each rule has cost somebody a wrong engine."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
import onnx.inliner

from cigocc_ros.core.errors import CigoccError
from cigocc_ros.core.manifest import OPSET

FORBIDDEN = {
    'NonZero': 'data-dependent shapes',
    'TopK': 'TensorRT stops at K = 3840',
    'ConvTranspose': 'no TensorRT tactic when fused with a cast; use Resize + Conv',
    'If': 'data-dependent control flow',
    'Loop': 'data-dependent control flow',
}
MAX_CUMSUMS = 1
MAX_RANK = 8
"""Of TensorRT's tensors (`nvinfer1::Dims::MAX_DIMS`)."""


class GraphError(CigoccError, ValueError):
    """An exported graph would not run everywhere, or would run wrongly."""


def check_graph(model: onnx.ModelProto) -> None:
    """Raise GraphError listing every broken rule of the graph, its functions and subgraphs."""
    problems = [*_opset_problems(model), *_shape_problems(model.graph), *_name_problems(model)]
    nodes = list(iterate_nodes(model))
    problems += [text for node in nodes for text in _node_problems(node)]
    if not any(node.op_type in FORBIDDEN for node in nodes):
        problems += _all_rank_problems(model)
    cumsums = sum(node.op_type == 'CumSum' for node in nodes)
    if cumsums > MAX_CUMSUMS:
        problems.append(
            f'{cumsums} CumSum nodes, at most {MAX_CUMSUMS} allowed (TensorRT 10.8+ mixes them up)'
        )
    if problems:
        raise GraphError('the exported graph is refused:\n  ' + '\n  '.join(problems))


def iterate_nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Yield all nodes of the graph, of local functions and of subgraphs."""
    stack = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    while stack:
        node = stack.pop()
        yield node
        for attribute in node.attribute:
            stack.extend(attribute.g.node)
            for graph in attribute.graphs:
                stack.extend(graph.node)


def _opset_problems(model: onnx.ModelProto) -> list[str]:
    versions = [entry.version for entry in model.opset_import if entry.domain in ('', 'ai.onnx')]
    return [] if versions == [OPSET] else [f'opset {versions} found, {OPSET} expected']


def _shape_problems(graph: onnx.GraphProto) -> list[str]:
    return [
        f'{value.name}: every dimension must be a fixed number'
        for value in (*graph.input, *graph.output)
        if not all(dim.dim_value > 0 for dim in value.type.tensor_type.shape.dim)
    ]


def _name_problems(model: onnx.ModelProto) -> Iterator[str]:
    """TensorRT before 10.8 reads the outer tensor where a function has one of its name."""
    outer = {tensor.name for tensor in (*model.graph.input, *model.graph.initializer)}
    outer.update(name for node in model.graph.node for name in node.output)
    for function in model.functions:
        inner = {*function.input, *(name for node in function.node for name in node.output)}
        for name in sorted(inner & outer):
            yield f'{function.name}: {name!r} is a tensor of the function and one outside of it'


def _node_problems(node: onnx.NodeProto) -> list[str]:
    where = f'{node.op_type} {node.name!r}'
    if node.op_type in FORBIDDEN:
        return [f'{where}: {FORBIDDEN[node.op_type]}']
    if node.op_type.startswith('Scatter') and _text(node, 'reduction', 'none') != 'none':
        return [f'{where}: reduction {_text(node, "reduction", "none")!r} is not portable']
    return []


def _all_rank_problems(model: onnx.ModelProto) -> list[str]:
    """Inline the functions first: ranks inside a body are known only at its calls."""
    flat = onnx.inliner.inline_local_functions(model)
    ranks = _ranks(flat)
    samplers = [node for node in iterate_nodes(flat) if node.op_type == 'GridSample']
    wrong = [text for node in samplers for text in _grid_sample_problems(node, ranks)]
    return [*_rank_problems(flat, ranks), *wrong]


def _rank_problems(model: onnx.ModelProto, ranks: dict[str, int]) -> Iterator[str]:
    for node in model.graph.node:
        for name in node.output:
            if ranks.get(name, 0) > MAX_RANK:
                yield (
                    f'{node.op_type} {node.name!r}: {ranks[name]} axes found, TensorRT takes at '
                    f'most {MAX_RANK}'
                )


def _ranks(model: onnx.ModelProto) -> dict[str, int]:
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    values = (*graph.input, *graph.value_info, *graph.output)
    ranks = {v.name: len(v.type.tensor_type.shape.dim) for v in values}
    return ranks | {tensor.name: len(tensor.dims) for tensor in graph.initializer}


def _grid_sample_problems(node: onnx.NodeProto, ranks: dict[str, int]) -> list[str]:
    where = f'{node.op_type} {node.name!r}'
    problems = []
    mode, rank = _text(node, 'mode', 'bilinear'), ranks.get(node.input[0])
    padding = _text(node, 'padding_mode', 'zeros')
    if (mode, padding) != ('bilinear', 'zeros'):
        problems.append(f'{where}: mode {mode!r} {padding!r} found, bilinear zeros expected')
    if any(a.name == 'align_corners' and a.i for a in node.attribute):
        problems.append(f'{where}: align_corners 1 found, 0 expected')
    if rank != 4:
        problems.append(f'{where}: input of rank {rank or "unknown"} found, 4 expected')
    return problems


def _text(node: onnx.NodeProto, name: str, default: str) -> str:
    values = [attribute.s.decode() for attribute in node.attribute if attribute.name == name]
    return values[0] if values else default
