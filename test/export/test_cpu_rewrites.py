"""Graphs rewritten for the CPU give the same numbers, and other graphs are left alone."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from cigocc_ros.core.onnx_file import SAMPLE_DOMAIN, SAMPLE_OP
from cigocc_ros.export.cpu_layouts import TO_CHANNELS, TO_SPACE, static_shapes
from cigocc_ros.export.cpu_rewrites import REWRITES, fold_divisions, rewrite_for_cpu
from cigocc_ros.export.cpu_sampling import MAX_POINTS
from cigocc_ros.export.cpu_stack_layers import interpolation
from cigocc_ros.export.cpu_winograd import FILTERED, minimal_filter
from cigocc_ros.export.sampling_function import add_sampling_function
from cigocc_ros.model.deform_attention import deformable_sample
from cigocc_ros.model.unet3d import UNet3d


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


def attributes(node):
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.parametrize('bias', [False, True])
@pytest.mark.parametrize('size', [(8, 6, 4), (6, 4, 5), (4, 8, 2), (4, 4, 1), (4, 5, 3)])
def test_convolution_of_levels_is_equal(size, stride, bias):
    model, x = conv3d((1, 4, *size), stride, bias)
    rewritten = rewrite_for_cpu(model)
    (conv,) = (node for node in rewritten.graph.node if node.op_type == 'Conv')
    products = {1: 1, 2: 4}.get(size[2], 6) if stride == 1 else 1
    assert attributes(conv)['group'] == products
    weight = next(t for t in rewritten.graph.initializer if t.name == conv.input[1])
    joined = 1 if stride == 1 else 3
    assert list(weight.dims) == [6 * products, 4 * joined, 3, 3]
    np.testing.assert_allclose(run(rewritten, x), run(model, x), atol=1e-4)


@pytest.mark.parametrize('odd', [{'kernel': 1, 'pads': 0}, {'pads': 0}, {'group': 2}])
def test_other_convolutions_are_left_alone(odd):
    model, x = conv3d((1, 4, 6, 6, 4), **odd)
    assert kinds(rewrite_for_cpu(model)) == ['Conv']
    np.testing.assert_array_equal(run(rewrite_for_cpu(model), x), run(model, x))


@pytest.mark.parametrize('size', [2, 4])
def test_filters_need_few_products_and_whole_numbers(size):
    image, kernel, back = minimal_filter(size)
    assert image.shape == (size + 2, size + 2) and (image == image.round()).all()
    rng = np.random.default_rng(3)
    x, w = rng.normal(size=size + 2), rng.normal(size=3)
    expected = [w @ x[i : i + 3] for i in range(size)]
    np.testing.assert_allclose(back @ ((kernel @ w) * (image @ x)), expected, atol=1e-12)


@pytest.mark.parametrize(('size', 'new_size'), [(1, 2), (4, 8), (5, 10), (3, 7)])
def test_interpolation_is_that_of_torch(size, new_size):
    x = torch.randn(1, 1, size)
    expected = torch.nn.functional.interpolate(x, new_size, mode='linear', align_corners=False)
    np.testing.assert_allclose(
        interpolation(size, new_size) @ x[0, 0].numpy(), expected[0, 0], atol=1e-6
    )


class Volumes(torch.nn.Module):
    """What the network does with volumes: from an image, through a UNet, to rows and back."""

    def __init__(self):
        super().__init__()
        self.unet = UNet3d(10, (8, 16, 16), 12, 'residual')
        self.mix = torch.nn.Linear(12, 12)
        self.head = torch.nn.Conv3d(12, 6, 3, padding=1)
        self.beside = torch.nn.Conv3d(8, 12, 1, bias=False)

    def forward(self, image, grid, weight):
        sampled = torch.nn.functional.grid_sample(image, grid, align_corners=False)
        sampled = sampled.reshape(1, 16, 8, 12, 4)
        features, skipped = sampled.split([8, 8], dim=1)
        features = torch.cat((features * weight, weight, torch.ones_like(weight)), dim=1)
        hidden = self.unet(features) + self.beside(skipped)
        rows = self.mix(hidden.flatten(2).transpose(1, 2))
        volume = rows.transpose(1, 2).reshape(hidden.shape)
        logits = self.head(volume)
        shares = (logits - logits.amax(1, keepdim=True)).exp()
        return shares.sum(1, keepdim=True).log(), hidden[:, 2:5]


def traced(module, *inputs):
    program = torch.onnx.export(
        module.eval(), inputs, dynamo=True, opset_version=18, verbose=False
    )
    return program.model_proto


def test_nothing_is_transposed_between_neighbouring_layers():
    torch.manual_seed(0)
    module = Volumes()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    inputs = (
        torch.randn(1, 16, 9, 11),
        torch.rand(1, 8, 48, 2) * 2.4 - 1.2,
        torch.rand(1, 1, 8, 12, 4),
    )
    rewritten = rewrite_for_cpu(traced(module, *inputs))
    turns = [
        tuple(attributes(n)['perm']) for n in rewritten.graph.node if n.op_type == 'Transpose'
    ]
    # the grid and the weight in, rows and back (two each), both outputs
    assert len(turns) == 8
    assert not {'InstanceNormalization', 'Resize'} & set(kinds(rewritten))
    weights = {t.name: t for t in rewritten.graph.initializer}
    convs = [node for node in rewritten.graph.node if node.op_type == 'Conv']
    assert convs and all(len(weights[node.input[1]].dims) == 4 for node in convs)
    session = onnxruntime.InferenceSession(rewritten.SerializeToString())
    names = [value.name for value in session.get_inputs()]
    found = session.run(None, dict(zip(names, (x.numpy() for x in inputs), strict=True)))
    with torch.no_grad():
        expected = module(*inputs)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def sampling(queries, heads=2, depth=4, points=3, size=(7, 9)):
    """A call of the operator with constant shapes, and its inputs."""
    generator = torch.Generator().manual_seed(queries)
    value = torch.randn(1, size[0] * size[1], heads, depth, generator=generator)
    locations = torch.rand(1, queries, heads, 1, points, 2, generator=generator) * 1.6 - 0.3
    weights = torch.rand(1, queries, heads, 1, points, generator=generator)
    inputs = {'value': value, 'locations': locations, 'weights': weights}
    node = helper.make_node(
        SAMPLE_OP,
        ['value', 'shape', 'start', 'locations', 'weights'],
        ['y'],
        'call',
        domain=SAMPLE_DOMAIN,
    )
    given = [
        helper.make_tensor_value_info(key, TensorProto.FLOAT, x.shape) for key, x in inputs.items()
    ]
    constants = {'shape': np.array([size], np.int32), 'start': np.zeros(1, np.int32)}
    graph = helper.make_graph(
        [node],
        'test',
        given,
        [helper.make_tensor_value_info('y', TensorProto.FLOAT, (1, queries, heads, depth))],
        [numpy_helper.from_array(v, key) for key, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 18)], ir_version=10)
    add_sampling_function(model)
    return model, inputs, deformable_sample(value, [size], locations, weights)


@pytest.mark.parametrize('queries', [1, 37, MAX_POINTS + 1])
def test_attention_samples_few_points_at_once(queries):
    model, inputs, expected = sampling(queries)
    rewritten = rewrite_for_cpu(model)
    assert not rewritten.functions
    shapes = static_shapes(rewritten)
    samplers = [node for node in rewritten.graph.node if node.op_type == 'GridSample']
    assert len(samplers) == 3 * (2 if queries > MAX_POINTS else 1)
    assert all(shapes[node.input[1]][2] <= MAX_POINTS for node in samplers)
    session = onnxruntime.InferenceSession(rewritten.SerializeToString())
    (found,) = session.run(None, {key: x.numpy() for key, x in inputs.items()})
    np.testing.assert_allclose(found.reshape(expected.shape), expected, atol=2e-6)


@pytest.mark.parametrize('name', REWRITES)
def test_each_rewrite_works_alone(name):
    """On a graph that has nodes without inputs once its functions are written out."""
    model, inputs, expected = sampling(37)
    session = onnxruntime.InferenceSession(rewrite_for_cpu(model, {name}).SerializeToString())
    (found,) = session.run(None, {key: x.numpy() for key, x in inputs.items()})
    np.testing.assert_allclose(found.reshape(expected.shape), expected, atol=2e-6)


@pytest.mark.parametrize('rows', [100, 101, 8192])
def test_many_points_of_one_image_are_sampled_in_pieces(rows):
    node = helper.make_node('GridSample', ['image', 'x'], ['y'], 'sample')
    rng = np.random.default_rng(4)
    image = rng.normal(size=(1, 2, 6, 7)).astype(np.float32)
    model = make_model([node], (1, rows, 50, 2), {'image': image}, rank=4)
    x = rng.uniform(-1.2, 1.2, size=(1, rows, 50, 2)).astype(np.float32)
    rewritten = rewrite_for_cpu(model)
    shapes = static_shapes(rewritten)
    samplers = [node for node in rewritten.graph.node if node.op_type == 'GridSample']
    sizes = [shapes[node.input[1]][1] for node in samplers]
    assert len(sizes) > 1 and sum(sizes) == rows and max(sizes) * 50 <= MAX_POINTS
    np.testing.assert_array_equal(run(rewritten, x), run(model, x))


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
    assert fold_divisions(copy.graph, {}) == 0
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


def references_and_offsets(kind, shape, reference_shape, swapped=False, constant=False):
    rng = np.random.default_rng(2)
    reference = 'points' if constant else 'reference'
    inputs = ['offsets', reference] if swapped else [reference, 'offsets']
    nodes = [
        helper.make_node('Identity', ['points'], ['reference'], 'begin'),
        helper.make_node('Reshape', ['x', 'shape'], ['offsets'], 'split'),
        helper.make_node(kind, inputs, ['sum'], 'add'),
        helper.make_node('Identity', ['sum'], ['y'], 'end'),
    ]
    points = rng.uniform(1, 2, size=reference_shape).astype(np.float32)
    x = rng.uniform(1, 2, size=(*shape[:2], int(np.prod(shape[2:])))).astype('f4')
    constants = {'shape': np.array(shape), 'points': points}
    return make_model(nodes, x.shape, constants, len(shape)), x


@pytest.mark.parametrize('kind', ['Add', 'Sub', 'Mul', 'Div'])
@pytest.mark.parametrize('swapped', [False, True])
@pytest.mark.parametrize('constant', [False, True])
@pytest.mark.parametrize(
    'shape, reference',
    [
        ((1, 7, 2, 4, 3), (1, 7, 1, 1, 3)),
        ((1, 7, 2, 2, 2, 2), (7, 1, 1, 1, 2)),
        ((2, 7, 2, 2, 2, 2), (2, 7, 1, 1, 1, 2)),
        ((1, 7, 2, 4, 3), (3,)),
        ((2, 7, 2, 4, 3), (1, 1, 1, 1, 3)),
    ],
)
def test_rows_are_computed_before_they_are_split(kind, shape, reference, swapped, constant):
    model, x = references_and_offsets(kind, shape, reference, swapped, constant)
    rewritten = rewrite_for_cpu(model)
    assert 'Tile' in kinds(rewritten)
    np.testing.assert_array_equal(run(rewritten, x), run(model, x))


def test_rows_stay_rows_from_one_operation_to_the_next():
    model, x = references_and_offsets('Div', (1, 7, 2, 4, 3), (3,))
    last = model.graph.node[-1]
    last.CopyFrom(helper.make_node('Add', ['sum', 'points'], ['y'], 'end'))
    rewritten = rewrite_for_cpu(model)
    assert kinds(rewritten).count('Tile') == 2
    np.testing.assert_array_equal(run(rewritten, x), run(model, x))


@pytest.mark.parametrize(
    'shape, reference',
    [
        ((1, 7, 2, 4, 3), (1, 7, 1, 4, 3)),
        ((1, 7, 2, 4, 3), (1, 7, 2, 4, 3)),
        ((1, 7, 2, 4, 8), (1, 7, 1, 1, 8)),
        ((2, 7, 2, 4, 3), (2, 1, 1, 1, 3)),
    ],
)
def test_other_sums_are_left_alone(shape, reference):
    model, x = references_and_offsets('Add', shape, reference)
    assert 'Tile' not in kinds(rewrite_for_cpu(model))
    np.testing.assert_array_equal(run(rewrite_for_cpu(model), x), run(model, x))


def test_layer_norm_is_written_out_and_stays_so():
    rng = np.random.default_rng(7)
    constants = {'g': rng.normal(size=16).astype('f4'), 'b': rng.normal(size=16).astype('f4')}
    node = helper.make_node('LayerNormalization', ['x', 'g', 'b'], ['y'], 'norm', epsilon=1e-3)
    model = make_model([node], (1, 5, 16), constants, rank=3)
    rewritten = rewrite_for_cpu(model)
    assert 'LayerNormalization' not in kinds(rewritten)
    x = rng.normal(size=(1, 5, 16)).astype('f4') * 3 + 5
    np.testing.assert_allclose(run(rewritten, x), run(model, x), atol=1e-5)


def test_other_layer_norms_are_left_alone():
    constants = {'g': np.ones((5, 16), 'f4'), 'b': np.zeros((5, 16), 'f4')}
    node = helper.make_node('LayerNormalization', ['x', 'g', 'b'], ['y'], 'norm', axis=1)
    model = make_model([node], (1, 5, 16), constants, rank=3)
    assert kinds(rewrite_for_cpu(model)) == ['LayerNormalization']


@pytest.mark.parametrize(('rows', 'axes'), [(16384, 3), (100, 1)])
def test_bias_of_many_rows_has_three_axes(rows, axes):
    nodes = [
        helper.make_node('MatMul', ['x', 'w'], ['product'], 'product'),
        helper.make_node('Add', ['product', 'b'], ['y'], 'sum'),
    ]
    rng = np.random.default_rng(8)
    constants = {'w': rng.normal(size=(4, 6)).astype('f4'), 'b': rng.normal(size=6).astype('f4')}
    model = make_model(nodes, (1, rows, 4), constants, rank=3)
    rewritten = rewrite_for_cpu(model)
    tensors = {t.name: t for t in rewritten.graph.initializer}
    assert len(tensors[rewritten.graph.node[1].input[1]].dims) == axes
    x = rng.normal(size=(1, rows, 4)).astype('f4')
    np.testing.assert_allclose(run(rewritten, x), run(model, x), atol=1e-5)


@pytest.mark.parametrize(('channels', 'filled'), [(3, True), (4, False)])
def test_joined_channels_are_filled_up_for_a_convolution(channels, filled):
    nodes = [
        helper.make_node('Concat', ['x', 'beside'], ['joined'], 'join', axis=1),
        helper.make_node('Conv', ['joined', 'w'], ['y'], 'conv', pads=[1] * 4),
    ]
    rng = np.random.default_rng(9)
    constants = {
        'beside': rng.normal(size=(1, 4, 5, 6)).astype('f4'),
        'w': rng.normal(size=(3, channels + 4, 3, 3)).astype('f4'),
    }
    model = make_model(nodes, (1, channels, 5, 6), constants, rank=4)
    rewritten = rewrite_for_cpu(model)
    assert len(rewritten.graph.node[0].input) == 2 + filled
    x = rng.normal(size=(1, channels, 5, 6)).astype('f4')
    np.testing.assert_allclose(run(rewritten, x), run(model, x), atol=1e-5)


def test_real_network_has_all(tiny_folder):
    graph = onnx.load(tiny_folder / 'model.onnx').graph
    names = {node.name for node in graph.node}
    assert {t.dims[2:] == [3, 3, 3] for t in graph.initializer if len(t.dims) == 5} == {False}
    groups = [
        attributes(node).get('group') for node in graph.node if node.name.startswith(FILTERED)
    ]
    assert {4, 6} <= set(groups)
    assert any(name.startswith('attended') for name in names)
    assert any('__divided_' in tensor.name for tensor in graph.initializer)
    assert {'moved0_turned2', 'row0_made', 'row1_made'} <= names
