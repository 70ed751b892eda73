"""ONNX bytes read without the onnx library say what the library says."""

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from cigocc_ros.core.errors import ManifestError
from cigocc_ros.core.installed import DEFAULT_MODEL, models_dir
from cigocc_ros.core.onnx_file import (
    SAMPLE_OP,
    count_calls,
    opset_of,
    renamed_operator,
    without_function,
)

READERS = [
    lambda content: opset_of(content, 'x'),
    lambda content: count_calls(content, SAMPLE_OP, 'x'),
    lambda content: without_function(content, SAMPLE_OP, 'x'),
]


@pytest.fixture(scope='module', params=['model.onnx', 'model_fp16.onnx'])
def shipped(request):
    return (models_dir() / DEFAULT_MODEL / request.param).read_bytes()


def functions(*names):
    """Return a model with a call of each function."""
    opset, relu = [helper.make_opsetid('', 18)], [helper.make_node('Relu', ['a'], ['b'])]
    bodies = [helper.make_function('own', name, ['a'], ['b'], relu, opset) for name in names]
    nodes = [helper.make_node(name, ['x'], [f'y_{name}'], domain='own') for name in names]
    graph = helper.make_graph(
        nodes,
        'test',
        [helper.make_tensor_value_info('x', TensorProto.FLOAT, (1,))],
        [helper.make_tensor_value_info(f'y_{names[0]}', TensorProto.FLOAT, (1,))],
    )
    opsets = [helper.make_opsetid('own', 1), *opset]
    return helper.make_model(graph, opset_imports=opsets, functions=bodies)


def test_the_shipped_files(shipped):
    model = onnx.load_from_string(shipped)
    assert opset_of(shipped, 'x') == 18
    calls = sum(node.op_type == SAMPLE_OP for node in model.graph.node)
    assert count_calls(shipped, SAMPLE_OP, 'x') == calls
    cut = without_function(shipped, SAMPLE_OP, 'x')
    del model.functions[:]
    assert onnx.load_from_string(cut) == model
    assert (len(cut) < len(shipped)) == bool(calls)


def test_only_the_function_that_is_named_is_cut():
    content = functions('First', SAMPLE_OP, 'Last').SerializeToString()
    cut = onnx.load_from_string(without_function(content, SAMPLE_OP, 'x'))
    assert [function.name for function in cut.functions] == ['First', 'Last']
    assert cut.graph == onnx.load_from_string(content).graph
    assert opset_of(content, 'x') == 18  # of the standard domain, which is not the first


def test_a_renamed_operator_is_renamed_in_calls_and_body(shipped):
    other = SAMPLE_OP.replace('Plugin', 'InONNX')
    model = onnx.load_from_string(renamed_operator(shipped, SAMPLE_OP, other))
    onnx.checker.check_model(model)
    assert {function.name for function in model.functions} <= {other}
    calls = count_calls(shipped, SAMPLE_OP, 'x')
    assert sum(node.op_type == other for node in model.graph.node) == calls
    with pytest.raises(ValueError, match='must be equal'):
        renamed_operator(shipped, SAMPLE_OP, 'Short')


@pytest.mark.parametrize('read', READERS)
@pytest.mark.parametrize('content', [b'\x3a\x7f', 12 * b'\x80', b'\x0b', b'\xca\x01\x05a'])
def test_damaged_bytes_are_refused(read, content):
    with pytest.raises(ManifestError, match='no ONNX file'):
        read(content)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 10_000))
def test_any_bytes_are_read_or_refused(noise, cut):
    whole = functions('First', SAMPLE_OP).SerializeToString()
    for content in (noise, whole[: cut % len(whole)] + noise):
        for read in READERS:
            try:
                read(content)
            except ManifestError as error:
                assert 'no ONNX file' in str(error)
