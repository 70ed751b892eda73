"""Where volumes come from and go to, on stacks: sampled images, rows of voxels, channels."""

from __future__ import annotations

import onnx
from onnx import helper, numpy_helper

from cigocc_ros.export.cpu_stack_writer import StackWriter


def sample(writer: StackWriter, index: int, node: onnx.NodeProto) -> bool:
    """Write the sampling of an image at the voxels of a volume, level by level."""
    chain = writer.chain(index, ('GridSample', 'Reshape'))
    output = '' if chain is None else writer.look.nodes[chain[1]].output[0]
    if chain is None or not writer.is_volume(output):
        return False
    z, c, x, y = writer.stack_shape(output)
    if writer.shapes.get(node.output[0]) != (1, c, x, y * z):
        return False
    rows = writer.reshape(node.input[1], (x * y, z, 2))
    turned = writer.make('Transpose', [rows], perm=[1, 0, 2])
    grids = writer.reshape(turned, (z, x, y, 2))
    levels = writer.split(grids, [1] * z, 0)
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    images = [writer.make('GridSample', [node.input[0], g], **attributes) for g in levels]
    writer.done.update(chain)
    writer.give(output, writer.make('Concat', images, axis=0))
    return True


def to_rows(writer: StackWriter, index: int, node: onnx.NodeProto) -> bool:
    """Write (1, C, X, Y, Z) -> (1, C, N) -> (1, N, C) of a stack."""
    name = node.input[0]
    chain = writer.chain(index, ('Reshape', 'Transpose')) if name in writer.stacks else None
    if chain is None or _axes(writer.look.nodes[chain[1]]) != [0, 2, 1]:
        return False
    z, c, x, y = writer.stack_shape(name)
    if writer.shapes.get(node.output[0]) != (1, c, x * y * z):
        return False
    writer.done.update(chain)
    pixels = writer.make(
        'Transpose', [writer.reshape(writer.stack(name), (z, c, x * y))], perm=[0, 2, 1]
    )
    # Two transpositions with a view between them, or the runtime makes a slower one of them.
    levels = writer.make(
        'Transpose', [writer.reshape(pixels, (z, x * y, c, 1))], perm=[1, 0, 2, 3]
    )
    writer.reshape(levels, (1, x * y * z, c), writer.look.nodes[chain[1]].output[0])
    return True


def of_rows(writer: StackWriter, index: int, node: onnx.NodeProto) -> bool:
    """Write (1, N, C) -> (1, C, N) -> (1, C, X, Y, Z), where convolutions use the volume."""
    turn = writer.look.made_by(node.input[0])
    output = node.output[0]
    if turn is None or turn.op_type != 'Transpose' or _axes(turn) != [0, 2, 1]:
        return False
    users = [writer.look.nodes[i].op_type for i in writer.look.users(index)]
    if not writer.is_volume(output) or set(users) != {'Conv'}:
        return False
    z, c, x, y = writer.stack_shape(output)
    if writer.shapes.get(turn.input[0]) != (1, x * y * z, c):
        return False
    rows = writer.reshape(turn.input[0], (x * y, z, c, 1))
    levels = writer.make('Transpose', [rows], perm=[1, 0, 2, 3])
    pixels = writer.make('Transpose', [writer.reshape(levels, (z, x * y, c))], perm=[0, 2, 1])
    writer.give(output, writer.reshape(pixels, (z, c, x, y)))
    return True


def concat(writer: StackWriter, index: int, node: onnx.NodeProto) -> bool:
    """Write volumes side by side where one of them is stacked."""
    if _axis(node) != 1 or not any(name in writer.stacks for name in node.input):
        return False
    if not all(writer.is_volume(name) for name in node.input):
        return False
    writer.copy_of(node, [writer.stack(name) for name in node.input])
    return True


def parts(writer: StackWriter, index: int, node: onnx.NodeProto) -> bool:
    """Write parts of the channels."""
    if _axis(node) != 1 or node.input[0] not in writer.stacks:
        return False
    sizes = [writer.shapes[name][1] for name in node.output]
    made = writer.split(writer.stack(node.input[0]), sizes, 1)
    for name, part in zip(node.output, made, strict=True):
        writer.give(name, part)
    return True


def cut(writer: StackWriter, index: int, node: onnx.NodeProto) -> bool:
    """Write some of the channels."""
    axes = writer.look.weights.get(node.input[3]) if len(node.input) > 3 else None
    if axes is None or numpy_helper.to_array(axes).tolist() != [1]:
        return False
    if node.input[0] not in writer.stacks or not writer.is_volume(node.output[0]):
        return False
    writer.copy_of(node, [writer.stack(node.input[0]), *node.input[1:]])
    return True


def _axis(node: onnx.NodeProto) -> int:
    return next((a.i for a in node.attribute if a.name == 'axis'), 0)


def _axes(node: onnx.NodeProto) -> list[int]:
    return next((list(a.ints) for a in node.attribute if a.name == 'perm'), [])
