"""Int8: what is quantised, how, and that it is proved; on a network with random weights."""

import importlib.util
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from cigocc_ros.core.manifest import load_manifest
from cigocc_ros.export.cpu_taps import without_filters
from cigocc_ros.export.cpu_winograd import FILTERED
from cigocc_ros.export.int8_folder import Int8Options, quantize_folder
from cigocc_ros.export.modelopt_route import has_modelopt
from cigocc_ros.export.quantization import (
    QuantizationError,
    calibrate,
    quantizable_convs,
    quantize_for_cpu,
    quantize_symmetric,
)
from cigocc_ros.export.quantized_mixed import ConvScales, conv_scales, quantize_mixed
from cigocc_ros.runtime.predictor import Predictor
from cigocc_ros.runtime.random_frames import random_inputs

SIZE = (48, 160)


@pytest.fixture(scope='module')
def frames():
    return random_inputs(SIZE, 3, seed=17)


@pytest.fixture(scope='module')
def model(tiny_folder):
    return onnx.load(tiny_folder / 'model.onnx')


def test_filters_become_plain_products(model, frames):
    plain = without_filters(model)
    marked = [sum(n.name.startswith(FILTERED) for n in m.graph.node) for m in (model, plain)]
    assert marked[0] > 3 and marked[1] == 0
    answers = []
    for one in (model, plain):
        session = onnxruntime.InferenceSession(one.SerializeToString())
        answers.append(session.run(None, frames[0]))
    assert (answers[0][0] == answers[1][0]).mean() > 0.999
    assert np.abs(answers[0][1].astype(int) - answers[1][1]).max() <= 2


@pytest.fixture(scope='module')
def ranges(tiny_folder, frames, tmp_path_factory):
    return calibrate(tiny_folder / 'model.onnx', frames[:1], tmp_path_factory.mktemp('scratch'))


@pytest.fixture(scope='module')
def int8_folder(tiny_folder, frames, tmp_path_factory):
    out = tmp_path_factory.mktemp('models') / 'tiny_int8'
    # Eight bits overflow on CPUs without VNNI, where two products are summed in sixteen.
    options = Int8Options(reduce_range=True, use_modelopt=False, threads=1, data='random')
    quantize_folder(tiny_folder, out, frames[:2], frames[2:], options)
    return out


def initializers(model):
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def dequantized_inputs(model):
    """Return for each Conv the nodes that make its first two inputs, where they are DQ."""
    makers = {n.output[0]: n for n in model.graph.node if n.op_type == 'DequantizeLinear'}
    convs = [n for n in model.graph.node if n.op_type == 'Conv']
    return [
        [makers[name] for name in conv.input[:2]]
        for conv in convs
        if all(n in makers for n in conv.input[:2])
    ]


def test_only_convolutions_are_quantised_and_none_that_decides(model, ranges):
    names = quantizable_convs(model)
    quantized = quantize_for_cpu(model, ranges, names, reduce_range=False)
    values = {
        name
        for node in quantized.graph.node
        if node.op_type == 'QuantizeLinear'
        for name in node.input[:1]
    }
    around = {
        name
        for node in model.graph.node
        if node.name in names
        for name in (node.input[0], *node.output)
    }
    assert values <= around
    assert len(dequantized_inputs(quantized)) == len(names)
    before, after = (Counter(n.op_type for n in m.graph.node) for m in (model, quantized))
    del after['QuantizeLinear'], after['DequantizeLinear']
    assert after == before
    assert 0 < len(names) < before['Conv']


def test_cpu_file_is_u8s8_per_channel_and_reduced_where_asked(model, ranges):
    names = quantizable_convs(model)
    for reduce_range, most in ((False, 127), (True, 64)):
        quantized = quantize_for_cpu(model, ranges, names, reduce_range)
        values = initializers(quantized)
        largest = 0
        for activation, weight in dequantized_inputs(quantized):
            assert values[activation.input[2]].dtype == np.uint8
            levels, scale = values[weight.input[0]], values[weight.input[1]]
            assert levels.dtype == np.int8 and scale.shape == levels.shape[:1]
            largest = max(largest, int(np.abs(levels.astype(int)).max()))
        assert most - 1 <= largest <= most + 1


def test_tensorrt_file_is_symmetric_int8_with_float16_biases(int8_folder):
    mixed = onnx.load(int8_folder / 'model_int8_fp16.onnx')
    values = initializers(mixed)
    pairs = dequantized_inputs(mixed)
    assert len(pairs) > 20
    for pair in pairs:
        for node in pair:
            assert values[node.input[1]].dtype == np.float16 and (values[node.input[1]] > 0).all()
            assert values[node.input[2]].dtype == np.int8 and not values[node.input[2]].any()
        assert values[pair[1].input[0]].dtype == np.int8
    biases = [n.input[2] for n in mixed.graph.node if n.op_type == 'Conv' and len(n.input) > 2]
    assert biases and all(name in values for name in biases), 'TensorRT refuses quantised biases'
    assert [f.name for f in mixed.functions] == ['MultiscaleDeformableAttnPlugin_TRT']
    assert {entry.version for entry in mixed.opset_import if entry.domain == ''} == {19}


def test_folder_runs_like_any_other_and_says_what_it_is(int8_folder, tiny_folder):
    manifest = load_manifest(int8_folder)
    assert {role: spec.precision for role, spec in manifest.files.items()} == {
        'onnx': 'int8',
        'onnx_fp16': 'mixed_int8',
        'golden': None,
    }
    facts = manifest.training['quantization']
    assert facts['of'] == 'tiny'
    assert facts['of_sha256'] == load_manifest(tiny_folder).file('onnx').sha256
    assert all(0.8 < share <= 1 for share in facts['worst_labels_equal'].values())
    predictor = Predictor.from_model_dir(int8_folder, 'onnxruntime', threads=1)
    predictor.warm_up()  # compares with the stored answers
    size = (int8_folder / 'model_int8.onnx').stat().st_size
    assert size < 0.8 * (tiny_folder / 'model.onnx').stat().st_size


def test_labels_that_do_not_survive_leave_nothing(tiny_folder, frames, tmp_path, monkeypatch):
    from cigocc_ros.export import int8_folder as module

    monkeypatch.setattr(module, 'MIN_INT8_AGREEMENT', 1.0)
    options = Int8Options(False, False, 1, 'random')
    with pytest.raises(QuantizationError, match=r'was not written: .* expected; calibrate'):
        quantize_folder(tiny_folder, tmp_path / 'out', frames[:1], frames[2:], options)
    assert not (tmp_path / 'out').exists()


def test_a_model_is_not_replaced_by_its_own_int8(tiny_folder, frames):
    with pytest.raises(QuantizationError, match='name another folder'):
        quantize_folder(tiny_folder, tiny_folder, frames, frames, Int8Options(False, False, 1, ''))


def test_nothing_is_written_beside_the_model(tiny_folder, frames, tmp_path, monkeypatch):
    """The folder of an installed model is read-only."""
    written = []
    infer = onnx.shape_inference.infer_shapes_path

    def watched(model, out, *rest):
        written.append(Path(out).parent)
        return infer(model, out, *rest)

    monkeypatch.setattr(onnx.shape_inference, 'infer_shapes_path', watched)
    calibrate(tiny_folder / 'model.onnx', frames[:1], tmp_path)
    assert written and set(written) == {tmp_path}


def test_calibration_without_frames_is_refused(tiny_folder, tmp_path):
    with pytest.raises(QuantizationError, match='at least one frame'):
        calibrate(tiny_folder / 'model.onnx', [], tmp_path)


def test_scales_of_another_model_are_refused(tiny_folder):
    mixed = onnx.load(tiny_folder / 'model_fp16.onnx')
    with pytest.raises(QuantizationError, match='not of one export'):
        quantize_mixed(mixed, {'elsewhere': ConvScales(1.0, np.ones(1, np.float32))})


def test_asymmetric_pairs_are_refused_for_tensorrt(model, ranges):
    names = quantizable_convs(model)
    assert len(conv_scales(quantize_symmetric(model, ranges, names))) == len(names)
    with pytest.raises(QuantizationError, match='int8 0 expected'):
        conv_scales(quantize_for_cpu(model, ranges, names, False))


def one_conv(weights, scale):
    """Return a float16 graph of one convolution, and its scales."""
    tensor = numpy_helper.from_array(np.float16(weights), 'w')
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT16, shape)
        for name, shape in (('x', (1, 1, 1, 1)), ('y', (1, len(weights), 1, 1)))
    ]
    node = helper.make_node('Conv', ['x', 'w'], ['y'], 'conv')
    graph = helper.make_graph([node], 'g', values[:1], values[1:], [tensor])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 18)], ir_version=10)
    return model, {'conv': ConvScales(scale, np.float32([0.5, 0.0]))}


def test_levels_by_hand_and_a_dead_channel():
    weights = np.array([3.3, 0.0]).reshape(2, 1, 1, 1)
    mixed, scales = one_conv(weights, 0.25)
    values = initializers(quantize_mixed(mixed, scales))
    assert values['w__int8_q'].reshape(-1).tolist() == [7, 0]
    assert values['w__int8_scale'].tolist() == [0.5, 2.0**-24]
    assert next(v for name, v in values.items() if name.startswith('x__')) == 0.25


@pytest.mark.skipif(not has_modelopt(), reason='NVIDIA ModelOpt is not installed')
def test_modelopt_gives_scales_for_the_same_convolutions(tiny_folder, model, frames, tmp_path):
    from cigocc_ros.export.modelopt_route import quantize_with_modelopt

    before = (tiny_folder / 'model.onnx').read_bytes()
    names = quantizable_convs(model)
    found = quantize_with_modelopt(tiny_folder / 'model.onnx', frames[:2], names, tmp_path)
    assert set(conv_scales(found)) == set(names)
    assert (tiny_folder / 'model.onnx').read_bytes() == before


def test_has_modelopt_needs_all_of_it(monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: name != 'onnxslim' or None)
    assert not has_modelopt()
