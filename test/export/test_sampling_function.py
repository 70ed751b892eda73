"""The sampling operator: its body equals torch, on any map, and fits TensorRT's stock plugin."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from cigocc_ros.core.onnx_file import SAMPLE_DOMAIN, SAMPLE_OP
from cigocc_ros.export.graph import portable
from cigocc_ros.export.sampling_function import add_sampling_function, sampling_function
from cigocc_ros.model.deform_attention import deformable_sample

NAMES = ['value', 'spatial_shapes', 'level_start_index', 'sampling_locations', 'attention_weights']
QUERIES, HEADS, DEPTH, POINTS = 37, 2, 4, 3


def call_model(batch, height, width):
    shapes = [
        (batch, height * width, HEADS, DEPTH),
        (1, 2),
        (1,),
        (batch, QUERIES, HEADS, 1, POINTS, 2),
        (batch, QUERIES, HEADS, 1, POINTS),
    ]
    types = [TensorProto.INT32 if i in (1, 2) else TensorProto.FLOAT for i in range(5)]
    inputs = [
        helper.make_tensor_value_info(*row) for row in zip(NAMES, types, shapes, strict=True)
    ]
    output = helper.make_tensor_value_info(
        'output', TensorProto.FLOAT, (batch, QUERIES, HEADS, DEPTH)
    )
    node = helper.make_node(SAMPLE_OP, NAMES, ['output'], 'call', domain=SAMPLE_DOMAIN)
    graph = helper.make_graph([node], 'call', inputs, [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 18)], ir_version=10)
    add_sampling_function(model)
    onnx.checker.check_model(model, full_check=True)
    return model


@pytest.mark.parametrize(('batch', 'height', 'width'), [(1, 5, 9), (2, 8, 3), (1, 1, 1)])
@pytest.mark.parametrize('inlined', [False, True])
def test_body_equals_torch_inside_and_outside_the_map(batch, height, width, inlined):
    generator = torch.Generator().manual_seed(height)
    value = torch.randn(batch, height * width, HEADS, DEPTH, generator=generator)
    locations = torch.rand(batch, QUERIES, HEADS, 1, POINTS, 2, generator=generator) * 1.6 - 0.3
    weights = torch.rand(batch, QUERIES, HEADS, 1, POINTS, generator=generator)
    model = call_model(batch, height, width)
    session = onnxruntime.InferenceSession(
        (portable(model) if inlined else model).SerializeToString(),
        providers=['CPUExecutionProvider'],
    )
    shape, start = np.array([[height, width]], np.int32), np.zeros(1, np.int32)
    arrays = [value.numpy(), shape, start, locations.numpy(), weights.numpy()]
    (found,) = session.run(None, dict(zip(NAMES, arrays, strict=True)))
    expected = deformable_sample(value, [(height, width)], locations, weights)
    np.testing.assert_allclose(found.reshape(expected.shape), expected, atol=2e-6)


def test_name_and_arguments_are_those_of_the_plugin():
    function = sampling_function()
    assert (function.domain, function.name) == (
        'trt.plugins',
        'MultiscaleDeformableAttnPlugin_TRT',
    )
    assert list(function.input) == [f'msda_{name}' for name in NAMES]
    assert len(function.output) == 1
    assert [entry.version for entry in function.opset_import] == [18]


def test_calls_name_version_and_namespace_of_the_plugin():
    (call,) = call_model(1, 5, 9).graph.node
    found = {attribute.name: attribute.s for attribute in call.attribute}
    assert found == {'plugin_version': b'1', 'plugin_namespace': b''}


def test_every_name_inside_is_one_that_no_network_uses():
    function = sampling_function()
    names = {*function.input, *(name for node in function.node for name in node.output)}
    assert len(names) > 30 and all(name.startswith('msda_') for name in names)


def test_model_without_sampling_gets_no_function():
    graph = helper.make_graph(
        [helper.make_node('Relu', ['x'], ['y'])],
        'plain',
        [helper.make_tensor_value_info('x', TensorProto.FLOAT, (2,))],
        [helper.make_tensor_value_info('y', TensorProto.FLOAT, (2,))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 18)])
    add_sampling_function(model)
    assert not model.functions and len(model.opset_import) == 1
