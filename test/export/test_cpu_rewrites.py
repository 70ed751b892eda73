"""Graphs rewritten for the CPU give the same numbers, and other graphs are left alone."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from cigocc_ros.export.cpu_layouts import TO_CHANNELS, TO_SPACE, static_shapes
from cigocc_ros.export.cpu_rewrites import fold_divisions, rewrite_for_cpu, slice_convolutions


def make_model(nodes, shape, constants, rank=5):
    graph = helper.make_graph(
        nodes,
        'test',
        [helper.make_tensor_value_info('x', TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info('y', TensorProto.FLOAT, [None] * rank)],
        [numpy_helper.from_array(np.asarray(v), key) for key, v in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid('', 18)], ir_version=10)


def run(model, x):
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=['CPUExecutionProvider']
    )
    return session.run(None, {'x': x})[0]


def kinds(model):
    return [node.op_type for node in model.graph.node]


def conv3d(shape, stride=1, bias=False, kernel=3, pads=1, group=1):
    rng = np.random.default_rng(0)
    constants = {'w': rng.normal(size=(6, shape[1] // group, *(kernel,) * 3)).astype(np.float32)}
    if bias:
        constants['b'] = rng.normal(size=6).astype(np.float32)
    node = helper.make_node(
        'Conv',
        ['x', *constants],
        ['y'],
        'conv',
        pads=[pads] * 6,
        strides=[stride] * 3,
        group=group,
    )
    return make_model([node], shape, constants), rng.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('bias', [False, True])
@pytest.mark.parametrize('size', [(8, 6, 4), (6, 4, 5), (4, 8, 2), (4, 4, 1)])
def test_sliced_convolution_is_equal(size, stride, bias):
    model, x = conv3d((1, 4, *size), stride, bias)
    rewritten = rewrite_for_cpu(model)
    assert kinds(rewritten).count('Conv') == 1 and 'Gather' in kinds(rewritten)
    weight = next(t for t in rewritten.graph.initializer if t.name.endswith('_weight'))
    assert list(weight.dims) == [6, 12, 3, 3]
    np.testing.assert_allclose(run(rewritten, x), run(model, x), atol=2e-5)


@pytest.mark.parametrize('odd', [{'kernel': 1, 'pads': 0}, {'pads': 0}, {'group': 2}])
def test_other_convolutions_are_left_alone(odd):
    model, x = conv3d((1, 4, 6, 6, 4), **odd)
    assert kinds(rewrite_for_cpu(model)) == ['Conv']
    assert slice_convolutions(model.graph, static_shapes(model)) == 0
    assert run(model, x).size


def linear_then_division(divisor, extra_output=False):
    """With `extra_output` the undivided offsets are needed too."""
    rng = np.random.default_rng(1)
    nodes = [
        helper.make_node('MatMul', ['x', 'w'], ['product'], 'product'),
        helper.make_node('Add', ['product', 'b'], ['sum'], 'sum'),
        helper.make_node('Reshape', ['sum', 'shape'], ['offsets'], 'split'),
        helper.make_node('Div', ['offsets', 'divisor'], ['d'], 'divide'),
        helper.make_node('Add', ['offsets' if extra_output else 'd', 'd'], ['y'], 'use'),
    ]
    constants = {
        'w': rng.normal(size=(5, 12)).astype(np.float32),
        'b': rng.normal(size=12).astype(np.float32),
        'shape': np.array([1, 7, 2, 2, 3]),
        'divisor': np.array(divisor, np.float32),
    }
    return make_model(nodes, (1, 7, 5), constants), rng.normal(size=(1, 7, 5)).astype(np.float32)


def test_division_is_folded_into_the_layer_before_it():
    model, x = linear_then_division([64, 32, 8])
    rewritten = rewrite_for_cpu(model)
    assert kinds(rewritten) == ['MatMul', 'Add', 'Reshape', 'Add']
    np.testing.assert_allclose(run(rewritten, x), run(model, x), rtol=1e-5, atol=1e-7)


def test_division_that_is_not_alone_stays():
    model, x = linear_then_division([64, 32, 8], extra_output=True)
    expected = run(model, x)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    assert fold_divisions(copy.graph) == 0
    np.testing.assert_array_equal(run(copy, x), expected)


@pytest.mark.parametrize(
    'axes, shape',
    [(TO_SPACE, (1, 3, 2, 2, 2, 4, 5, 6)), (TO_CHANNELS, (1, 3, 4, 2, 5, 2, 6, 2))],
)
def test_subvoxels_are_moved_in_three_steps(axes, shape):
    node = helper.make_node('Transpose', ['x'], ['y'], 'turn', perm=axes)
    model = make_model([node], shape, {}, rank=8)
    rewritten = rewrite_for_cpu(model)
    assert kinds(rewritten).count('Transpose') == 3
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    np.testing.assert_array_equal(run(rewritten, x), x.transpose(axes))


def test_other_transpositions_are_left_alone():
    for axes, shape in ((TO_SPACE, (1, 3, 2, 2, 3, 4, 5, 6)), ([7, *range(7)], (1, 2) * 4)):
        model = make_model(
            [helper.make_node('Transpose', ['x'], ['y'], 'turn', perm=axes)], shape, {}, rank=8
        )
        assert kinds(rewrite_for_cpu(model)) == ['Transpose']


def references_and_offsets(reference_shape):
    rng = np.random.default_rng(2)
    nodes = [
        helper.make_node('Reshape', ['x', 'shape'], ['offsets'], 'split'),
        helper.make_node('Add', ['reference', 'offsets'], ['sum'], 'add'),
        helper.make_node('Identity', ['sum'], ['y'], 'end'),
    ]
    constants = {
        'shape': np.array([1, 7, 2, 4, 3]),
        'points': rng.normal(size=reference_shape).astype(np.float32),
    }
    nodes.insert(0, helper.make_node('Identity', ['points'], ['reference'], 'begin'))
    return make_model(nodes, (1, 7, 24), constants), rng.normal(size=(1, 7, 24)).astype('f4')


def test_references_are_added_before_the_offsets_are_split():
    model, x = references_and_offsets((1, 7, 1, 1, 3))
    rewritten = rewrite_for_cpu(model)
    assert 'Tile' in kinds(rewritten)
    np.testing.assert_array_equal(run(rewritten, x), run(model, x))


@pytest.mark.parametrize('shape', [(1, 7, 1, 4, 3), (1, 1, 1, 1, 3), (1, 7, 2, 4, 3)])
def test_other_additions_are_left_alone(shape):
    model, x = references_and_offsets(shape)
    assert 'Tile' not in kinds(rewrite_for_cpu(model))
    np.testing.assert_array_equal(run(rewrite_for_cpu(model), x), run(model, x))


def test_real_network_has_all(tiny_folder):
    graph = onnx.load(tiny_folder / 'model.onnx').graph
    names = {node.name for node in graph.node}
    assert 'slices4_convolved' in names  # 2 + 2 + 1 of the UNet and the head's
    assert {t.dims[2:] == [3, 3, 3] for t in graph.initializer if len(t.dims) == 5} == {False}
    assert any('__divided_' in tensor.name for tensor in graph.initializer)
    assert {'moved0_turned2', 'reference0_added'} <= names
