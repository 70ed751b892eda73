"""Makers, users and ways up of a graph small enough to draw."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cigocc_ros.export.graph import Graph, copied, keep_initializers, replace_nodes


@pytest.fixture
def model():
    """x -> Conv(w) c -> Relu r -> ArgMax(r) y;  c -> Exp e (unused);  r -> Conv(v) d -> out z"""
    shape = [1, 2, 4, 4]
    nodes = [
        helper.make_node('Conv', ['x', 'w'], ['c'], 'first'),
        helper.make_node('Relu', ['c'], ['r'], 'relu'),
        helper.make_node('Exp', ['c'], ['e'], 'unused'),
        helper.make_node('Conv', ['r', 'v'], ['d'], 'second'),
        helper.make_node('ArgMax', ['r'], ['y'], 'decide', axis=1),
        helper.make_node('Add', ['d', 'd'], ['z'], 'twice'),
    ]
    weights = [
        numpy_helper.from_array(np.ones((2, 2, 1, 1), np.float32), name) for name in ('w', 'v')
    ]
    graph = helper.make_graph(
        nodes,
        'small',
        [helper.make_tensor_value_info('x', TensorProto.FLOAT, shape)],
        [
            helper.make_tensor_value_info('y', TensorProto.INT64, [1, 1, 4, 4]),
            helper.make_tensor_value_info('z', TensorProto.FLOAT, shape),
        ],
        weights,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 18)])
    return onnx.shape_inference.infer_shapes(made)


def test_makers_users_and_uses(model):
    graph = Graph(model.graph)
    assert graph.made_by('c').name == 'first' and graph.made_by('x') is graph.made_by('w') is None
    assert graph.users(0) == {1, 2} and graph.users(3) == {5} and graph.users(2) == set()
    assert (graph.uses('d'), graph.uses('z'), graph.uses('e'), graph.uses('none')) == (2, 1, 0, 0)


def test_the_way_up_ends_where_it_is_told(model):
    graph = Graph(model.graph)
    passed, reached = graph.upstream(['y'], lambda index: graph.nodes[index].op_type == 'Conv')
    assert (passed, reached) == ({4, 1}, {0})
    assert graph.upstream(['y', 'z'], lambda _: False).passed == {0, 1, 3, 4, 5}
    assert graph.upstream(['x', 'w', 'none'], lambda _: False) == (set(), set())


def test_what_decides_are_outputs_and_what_is_compared(model):
    assert sorted(Graph(model.graph).decisive_values()) == ['r', 'y', 'z']


def test_replaced_nodes_take_their_weights_and_types_along(model):
    before = copied(model)
    kept = [node for node in model.graph.node if node.name in ('first', 'relu', 'decide')]
    replace_nodes(model.graph, kept)
    assert [node.name for node in model.graph.node] == ['first', 'relu', 'decide']
    assert [tensor.name for tensor in model.graph.initializer] == ['w']
    assert not model.graph.value_info and before.graph.value_info
    assert len(before.graph.node) == 6 and len(before.graph.initializer) == 2
    del model.graph.output[1]
    onnx.checker.check_model(model, full_check=True)


def test_a_weight_that_is_an_output_stays(model):
    model.graph.output.append(helper.make_tensor_value_info('v', TensorProto.FLOAT, [2, 2, 1, 1]))
    replace_nodes(model.graph, [model.graph.node[0]])
    assert [tensor.name for tensor in model.graph.initializer] == ['w', 'v']
    keep_initializers(model.graph, {'v'})
    assert [tensor.name for tensor in model.graph.initializer] == ['v']
