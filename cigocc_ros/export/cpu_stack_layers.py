"""Layers of volumes on stacks: convolution, group norm, trilinear interpolation."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from cigocc_ros.export.cpu_stack_writer import StackWriter
from cigocc_ros.export.cpu_winograd import FILTERED, planes

_NORM = ('Reshape', 'InstanceNormalization', 'Reshape', 'Mul', 'Add')


def convolve(writer: StackWriter, index: int, node: onnx.NodeProto) -> bool:
    """Write a convolution of 3x3x3, or of one voxel of what is stacked."""
    weight = writer.look.weights.get(node.input[1])
    if weight is None or not writer.is_volume(node.input[0]):
        return False
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    kernel = list(weight.dims[2:])
    if attributes.get('group', 1) != 1 or set(attributes.get('dilations', [1])) != {1}:
        return False
    padding, strides = set(attributes.get('pads', [0])), attributes.get('strides', [1] * 3)
    if kernel == [3] * 3 and padding == {1}:
        _convolve_levels(writer, node, numpy_helper.to_array(weight), strides)
    elif kernel == [1] * 3 and padding == {0} and set(strides) == {1}:
        if node.input[0] not in writer.stacks:
            return False
        _convolve_voxels(writer, node, numpy_helper.to_array(weight))
    else:
        return False
    return True


def _convolve_levels(
    writer: StackWriter, node: onnx.NodeProto, weight: NDArray[np.float32], strides: list[int]
) -> None:
    name = node.input[0]
    z, c, x, y = writer.stack_shape(name)
    way = planes(weight, z, strides[2])
    joined = len(way.taken) // way.images
    stack = writer.combine(way.taken, writer.stack(name), (way.images, joined * c, x, y))
    inputs = [stack, writer.constant(way.weight)]
    if way.given is None:
        inputs += node.input[2:3]
    mark = '' if way.given is None else FILTERED
    made = writer.make(
        'Conv', inputs, mark=mark, pads=[1] * 4, strides=strides[:2], group=way.groups
    )
    output = node.output[0]
    if way.given is not None:
        made = writer.combine(way.given, made, writer.stack_shape(output))
        if len(node.input) > 2:
            bias = numpy_helper.to_array(writer.look.weights[node.input[2]])
            made = writer.make('Add', [made, writer.constant(bias.reshape(-1, 1, 1))])
    writer.give(output, made)


def _convolve_voxels(
    writer: StackWriter, node: onnx.NodeProto, weight: NDArray[np.float32]
) -> None:
    flat = writer.constant(weight.reshape(*weight.shape[:2], 1, 1))
    writer.give(
        node.output[0],
        writer.make('Conv', [writer.stack(node.input[0]), flat, *node.input[2:]]),
    )


def norm(writer: StackWriter, index: int, node: onnx.NodeProto) -> bool:
    """Write a group norm, exported as an instance norm of groups, scale and shift."""
    name = node.input[0]
    chain = writer.chain(index, _NORM) if name in writer.stacks else None
    if chain is None:
        return False
    groups = writer.shapes[node.output[0]][1]
    norm, scale, shift = (writer.look.nodes[i] for i in (chain[1], chain[3], chain[4]))
    epsilon = helper.get_attribute_value(norm.attribute[0])
    for layer in (scale, shift):
        if layer.input[1] not in writer.look.weights:
            return False
    gains = [numpy_helper.to_array(writer.look.weights[n]) for n in norm.input[1:]]
    if not ((gains[0] == 1).all() and (gains[1] == 0).all()):
        return False
    writer.done.update(chain)
    writer.give(
        shift.output[0],
        _normalised(writer, name, groups, epsilon, (scale.input[1], shift.input[1])),
    )
    return True


def _normalised(
    writer: StackWriter, name: str, groups: int, epsilon: float, affine: tuple[str, str]
) -> str:
    """Write (v - mean) / sqrt(variance + epsilon) * scale + shift, statistics of groups."""
    z, c, x, y = writer.stack_shape(name)
    stack = writer.stack(name)
    rows = writer.reshape(stack, (z * c, x * y))
    axis = writer.numbers(1)
    means = [
        writer.make('ReduceMean', [rows, axis], keepdims=0),
        writer.make('ReduceSumSquare', [rows, axis], keepdims=0),
    ]
    member = np.kron(np.eye(groups), np.ones((c // groups, c // groups)))
    share = member * groups / c / z
    of_group = np.tile(share, (z, 1)).astype(np.float32)  # (Z * C, C): mean of the own group
    mean = writer.make('MatMul', [writer.reshape(means[0], (1, z * c)), writer.constant(of_group)])
    of_squares = writer.constant((of_group / (x * y)).astype(np.float32))
    square = writer.make('MatMul', [writer.reshape(means[1], (1, z * c)), of_squares])
    variance = writer.make('Sub', [square, writer.make('Mul', [mean, mean])])
    scale, shift = (
        writer.constant(numpy_helper.to_array(writer.look.weights[n]).reshape(1, -1))
        for n in affine
    )
    # Not a BatchNormalization: TensorRT's parser wants its statistics to be constants.
    stable = writer.make('Add', [variance, writer.constant(np.array(epsilon, np.float32))])
    gain = writer.make('Div', [scale, writer.make('Sqrt', [stable])])
    rest = writer.make('Sub', [shift, writer.make('Mul', [mean, gain])])
    wide, tall = (writer.reshape(v, (c, 1, 1)) for v in (gain, rest))
    return writer.make('Add', [writer.make('Mul', [stack, wide]), tall])


def resize(writer: StackWriter, index: int, node: onnx.NodeProto) -> bool:
    """Write a trilinear interpolation as three small matrices."""
    name, output = node.input[0], node.output[0]
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    plain = attributes.get('coordinate_transformation_mode', b'half_pixel') == b'half_pixel'
    linear = attributes.get('mode') == b'linear' and not attributes.get('antialias')
    if name not in writer.stacks or not (plain and linear and writer.is_volume(output)):
        return False
    z, c, x, y = writer.stack_shape(name)
    new_z, _, new_x, new_y = writer.stack_shape(output)
    columns = writer.constant(interpolation(y, new_y).T.copy())
    made = writer.make('MatMul', [writer.stack(name), columns])
    made = writer.make('MatMul', [writer.constant(interpolation(x, new_x)), made])
    writer.give(output, writer.combine(interpolation(z, new_z), made, (new_z, c, new_x, new_y)))
    return True


def interpolation(size: int, new_size: int) -> NDArray[np.float32]:
    """Return the matrix (new_size, size) of linear interpolation between centres of cells."""
    place = ((np.arange(new_size) + 0.5) * size / new_size - 0.5).clip(0, size - 1)
    lower = np.minimum(np.floor(place).astype(int), max(size - 2, 0))
    matrix = np.zeros((new_size, size))
    rows = np.arange(new_size)
    matrix[rows, lower] = 1 - (place - lower)
    if size > 1:
        matrix[rows, lower + 1] = place - lower
    return matrix.astype(np.float32)
