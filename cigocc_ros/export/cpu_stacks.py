"""Volumes (1, C, X, Y, Z) of an ONNX graph become stacks (Z, C, X, Y) of images.

ONNX Runtime has a blocked 2D convolution for CPUs, and for 3D an im2col. Whatever touches volumes
between two convolutions works on stacks as well, so nothing is transposed between neighbours: a
volume is made of a stack, or a stack of a volume, where some other node needs it.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx
from onnx import helper, numpy_helper

from cigocc_ros.export.cpu_layouts import Shapes
from cigocc_ros.export.cpu_stack_layers import convolve, norm, resize
from cigocc_ros.export.cpu_stack_moves import concat, cut, of_rows, parts, sample, to_rows
from cigocc_ros.export.cpu_stack_writer import StackWriter
from cigocc_ros.export.graph import replace_nodes

_UNARY = frozenset({'Relu', 'Sigmoid', 'Exp', 'Log', 'Neg', 'Clip', 'Cast'})
_BINARY = frozenset({'Add', 'Sub', 'Mul', 'Div'})
_OVER_CHANNELS = frozenset({'ReduceMax', 'ReduceSum', 'ArgMax'})
"""Axis 1, which is kept, of a volume is that of a stack."""


def stack_volumes(graph: onnx.GraphProto, shapes: Shapes) -> int:
    """Write 3D convolutions and what is between them in 2D, in place; return how many nodes."""
    writer = StackWriter(graph, shapes)
    count = 0
    for index, node in enumerate(graph.node):
        if index in writer.done:
            continue
        if any(handler(writer, index, node) for handler in _HANDLERS.get(node.op_type, ())):
            count += 1
            continue
        for name in node.input:
            writer.need_volume(name)
        writer.nodes.append(node)
    for value in graph.output:
        writer.need_volume(value.name)
    replace_nodes(graph, writer.nodes)
    return count


def _each(writer: StackWriter, index: int, node: onnx.NodeProto) -> bool:
    """Write what is done to every number for itself."""
    first, output = node.input[0], node.output[0]
    if first not in writer.stacks or not writer.is_volume(output):
        return False
    writer.copy_of(node, [writer.stack(first), *node.input[1:]])
    return True


def _over_channels(writer: StackWriter, index: int, node: onnx.NodeProto) -> bool:
    """Write what makes one channel of all."""
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    axes = [attributes.get('axis', 0)]
    if node.op_type != 'ArgMax':
        given = writer.look.weights.get(node.input[1]) if len(node.input) > 1 else None
        axes = [] if given is None else numpy_helper.to_array(given).tolist()
    return axes == [1] and attributes.get('keepdims', 1) and _each(writer, index, node)


def _binary(writer: StackWriter, index: int, node: onnx.NodeProto) -> bool:
    """Write an operation of two volumes, or of one and a number for each channel."""
    if not any(name in writer.stacks for name in node.input):
        return False
    inputs = []
    for name in node.input:
        numbers = writer.look.weights.get(name)
        if numbers is not None and list(numbers.dims[-3:]) in ([], [1], [1, 1, 1]):
            inputs.append(_per_channel(writer, numbers))
        elif writer.is_volume(name) and _is_as_large(writer, name, node.output[0]):
            inputs.append(name)
        else:
            return False
    writer.copy_of(node, [writer.stack(n) if writer.is_volume(n) else n for n in inputs])
    return True


def _is_as_large(writer: StackWriter, name: str, output: str) -> bool:
    return writer.stack_shape(name)[2:] == writer.stack_shape(output)[2:] and (
        writer.stack_shape(name)[0] == writer.stack_shape(output)[0]
    )


def _per_channel(writer: StackWriter, numbers: onnx.TensorProto) -> str:
    """Return a constant (C, 1, 1, 1), (1, C, 1, 1, 1) or one number, for stacks."""
    values = numpy_helper.to_array(numbers)
    return numbers.name if values.size == 1 else writer.constant(values.reshape(-1, 1, 1))


Handler = Callable[[StackWriter, int, onnx.NodeProto], bool]
_HANDLERS: dict[str, tuple[Handler, ...]] = {
    'Conv': (convolve,),
    'Resize': (resize,),
    'Reshape': (norm, to_rows, of_rows),
    'GridSample': (sample,),
    'Concat': (concat,),
    'Split': (parts,),
    'Slice': (cut,),
    **dict.fromkeys(_BINARY, (_binary,)),
    **dict.fromkeys(_UNARY, (_each,)),
    **dict.fromkeys(_OVER_CHANNELS, (_over_channels,)),
}
