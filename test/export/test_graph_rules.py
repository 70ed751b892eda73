"""Graph rules: each forbidden construct is found, in the graph and in local functions."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from cigocc_ros.export.graph_rules import GraphError, check_graph


def make_model(nodes, shape=(1, 2, 4, 4), opset=18, functions=(), domains=(), constants=None):
    tensors = [numpy_helper.from_array(v, name) for name, v in (constants or {}).items()]
    graph = helper.make_graph(
        nodes,
        'test',
        [helper.make_tensor_value_info('x', TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info('y', TensorProto.FLOAT, (1,))],
        tensors,
    )
    opsets = [helper.make_opsetid('', opset), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(graph, opset_imports=opsets, functions=list(functions))


def node(kind, inputs=('x',), **attributes):
    return helper.make_node(kind, list(inputs), ['out'], name=f'a_{kind}', **attributes)


def test_plain_graph_passes():
    check_graph(make_model([node('Relu')]))


@pytest.mark.parametrize('kind', ['NonZero', 'TopK', 'ConvTranspose', 'Loop', 'If'])
def test_forbidden_operators_are_named(kind):
    with pytest.raises(GraphError, match=f"{kind} 'a_{kind}'"):
        check_graph(make_model([node(kind)]))


def test_forbidden_operator_inside_a_local_function_is_found():
    body = helper.make_function(
        'custom',
        'F',
        ['a'],
        ['b'],
        [helper.make_node('NonZero', ['a'], ['b'], 'deep')],
        [helper.make_opsetid('', 18)],
    )
    model = make_model([], functions=[body], domains=['custom'])
    with pytest.raises(GraphError, match="NonZero 'deep'"):
        check_graph(model)


@pytest.mark.parametrize('axes', [8, 9])
def test_no_tensor_has_more_axes_than_tensorrt_takes(axes):
    shape = np.array([1] * (axes - 1) + [32])
    model = make_model([node('Reshape', ['x', 'shape'])], constants={'shape': shape})
    if axes == 8:
        check_graph(model)
        return
    with pytest.raises(GraphError, match=r"Reshape 'a_Reshape': 9 axes found, .* at most 8"):
        check_graph(model)


@pytest.mark.parametrize('kind', ['ScatterND', 'ScatterElements'])
def test_scatter_is_allowed_only_without_reduction(kind):
    inputs = ('x', 'i', 'u')
    check_graph(make_model([node(kind, inputs)]))
    check_graph(make_model([node(kind, inputs, reduction='none')]))
    with pytest.raises(GraphError, match="reduction 'add'"):
        check_graph(make_model([node(kind, inputs, reduction='add')]))


def grid_sample_model(rank, **attributes):
    grid = np.zeros((1, *(3,) * (rank - 2), rank - 2), np.float32)
    return make_model(
        [node('GridSample', ('x', 'grid'), **attributes)],
        shape=(1, 2, *(4,) * (rank - 2)),
        constants={'grid': grid},
    )


def test_grid_sample_is_2d_and_bilinear():
    check_graph(grid_sample_model(4))
    check_graph(grid_sample_model(4, mode='bilinear'))
    with pytest.raises(GraphError, match="mode 'nearest' 'zeros' found, bilinear zeros expected"):
        check_graph(grid_sample_model(4, mode='nearest'))
    with pytest.raises(GraphError, match="mode 'bilinear' 'border' found"):
        check_graph(grid_sample_model(4, padding_mode='border'))
    with pytest.raises(GraphError, match='align_corners 1 found, 0 expected'):
        check_graph(grid_sample_model(4, align_corners=1))
    with pytest.raises(GraphError, match='rank 5 found, 4 expected'):
        check_graph(grid_sample_model(5))


def test_grid_sample_of_unknown_rank_is_refused():
    model = make_model([node('GridSample', ('mystery', 'x'))])
    with pytest.raises(GraphError, match='rank unknown'):
        check_graph(model)


def test_one_cumsum_is_allowed_two_are_not():
    check_graph(make_model([node('CumSum', ('x', 'axis'))]))
    with pytest.raises(GraphError, match='2 CumSum'):
        check_graph(make_model([node('CumSum', ('x', 'axis'))] * 2))


def test_a_name_inside_and_outside_of_a_function_is_refused():
    function = helper.make_function(
        'own',
        'Twice',
        ['x'],
        ['t'],
        [helper.make_node('Relu', ['x'], ['t'])],
        [helper.make_opsetid('', 18)],
    )
    call = helper.make_node('Twice', ['x'], ['y'], domain='own')
    with pytest.raises(GraphError, match="Twice: 'x' is a tensor of the function and one outside"):
        check_graph(make_model([call], functions=[function], domains=['own']))
    function.input[0] = function.node[0].input[0] = 'inner'
    check_graph(make_model([call], functions=[function], domains=['own']))


def test_other_opset_is_refused():
    with pytest.raises(GraphError, match=r'opset \[20\] found, 18 expected'):
        check_graph(make_model([node('Relu')], opset=20))


def test_dynamic_dimension_is_refused():
    with pytest.raises(GraphError, match='x: every dimension'):
        check_graph(make_model([node('Relu')], shape=('batch', 2, 4, 4)))


def test_all_problems_are_listed_at_once():
    with pytest.raises(GraphError) as caught:
        check_graph(make_model([node('NonZero'), node('TopK')], opset=17))
    assert all(word in str(caught.value) for word in ('NonZero', 'TopK', '[17]'))
