"""The mixed file: float16 where it learns, float32 where it measures, rounding shown honestly."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from cigocc_ros.core.manifest import LABELS
from cigocc_ros.export.half_emulation import RANGES, emulated, half_values, with_ranges
from cigocc_ros.export.mixed_gate import MixedReport, measure_mixed, require_mixed
from cigocc_ros.export.mixed_precision import PrecisionError, mixed_precision
from cigocc_ros.export.sampling_function import is_sampling
from cigocc_ros.runtime.onnxruntime_engine import open_session
from cigocc_ros.runtime.random_frames import random_inputs

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16


def session(model):
    return onnxruntime.InferenceSession(
        model.SerializeToString(), providers=['CPUExecutionProvider']
    )


def types_of(model):
    inferred = onnx.shape_inference.infer_shapes(model).graph
    values = (*inferred.input, *inferred.value_info, *inferred.output)
    types = {v.name: v.type.tensor_type.elem_type for v in values}
    return types | {t.name: t.data_type for t in inferred.initializer}


def small_network(weight_scale=1.0):
    """x -> layer -> relu -> layer -> exp -> y, and a projection matrix @ points beside it."""
    rng = np.random.default_rng(3)
    constants = {
        'w1': rng.normal(size=(16, 16)) * weight_scale,
        'w2': rng.normal(size=(16, 4)) * 0.1,
        'points': rng.normal(size=(4, 5)) * 50,
    }
    nodes = [
        helper.make_node('Mul', ['x', 'x'], ['squared'], 'preprocess'),
        helper.make_node('MatMul', ['squared', 'w1'], ['a'], 'layer1'),
        helper.make_node('Relu', ['a'], ['r'], 'relu'),
        helper.make_node('MatMul', ['r', 'w2'], ['b'], 'layer2'),
        helper.make_node('Exp', ['b'], ['e'], 'exp'),
        helper.make_node('Transpose', ['matrix'], ['turned'], 'turn', perm=[1, 0]),
        helper.make_node('MatMul', ['turned', 'points'], ['projected'], 'project'),
        helper.make_node('ReduceMax', ['projected'], ['far'], 'far', keepdims=0),
        helper.make_node('Add', ['e', 'far'], ['y'], 'join'),
    ]
    graph = helper.make_graph(
        nodes,
        'small',
        [
            helper.make_tensor_value_info('x', FLOAT, (3, 16)),
            helper.make_tensor_value_info('matrix', FLOAT, (4, 4)),
        ],
        [helper.make_tensor_value_info('y', FLOAT, (3, 4))],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid('', 18)], ir_version=10)


SMALL_INPUTS = {
    'x': np.random.default_rng(1).normal(size=(3, 16)).astype(np.float32),
    'matrix': np.random.default_rng(2).normal(size=(4, 4)).astype(np.float32),
}


def test_layers_are_half_and_what_surrounds_them_is_not():
    types = types_of(mixed_precision(small_network()))
    assert {types[name] for name in ('a', 'r', 'b')} == {HALF}
    assert {types[name] for name in ('squared', 'e', 'turned', 'projected', 'y')} == {FLOAT}


def test_weight_beyond_float16_is_refused():
    with pytest.raises(PrecisionError, match=r'weight w1: .* does not fit into float16'):
        mixed_precision(small_network(weight_scale=1e5))


def test_emulation_rounds_to_float16_exactly():
    """Numpy's float16 is the judge: layer by layer, sums in float32."""
    model = small_network()
    weights = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}

    def half(values):
        return values.astype(np.float16).astype(np.float32)

    squared = half(SMALL_INPUTS['x'] ** 2)
    a = half(squared @ half(weights['w1']))
    b = half(np.maximum(a, 0) @ half(weights['w2']))
    expected = np.exp(b) + (SMALL_INPUTS['matrix'].T @ weights['points']).max()
    (found,) = session(emulated(mixed_precision(model))).run(None, SMALL_INPUTS)
    np.testing.assert_allclose(found, expected, rtol=3e-7)
    (unrounded,) = session(model).run(None, SMALL_INPUTS)
    assert np.abs(found - unrounded).max() > 1e-4


def test_ranges_are_those_of_every_half_value():
    mixed = mixed_precision(small_network())
    names = half_values(mixed)
    assert {'a', 'r', 'b'} < set(names)
    model = emulated(mixed)
    (ranges,) = session(with_ranges(model, names)).run([RANGES], SMALL_INPUTS)
    extra = [helper.make_tensor_value_info(name, FLOAT, None) for name in names]
    model.graph.output.extend(extra)
    values = session(model).run(names, SMALL_INPUTS)
    np.testing.assert_array_equal(ranges, [[v.min() for v in values], [v.max() for v in values]])


def test_overflow_and_lost_labels_are_refused():
    require_mixed(MixedReport(1, 0.9999, 2e4, 'conv'))
    for largest in (4e4, float('inf'), float('nan')):
        with pytest.raises(PrecisionError, match='conv: .* found, at most 30000 allowed'):
            require_mixed(MixedReport(1, 0.9999, largest, 'conv'))
    with pytest.raises(PrecisionError, match=r'labels that survive .* 94.0000 %'):
        require_mixed(MixedReport(1, 0.94, 10.0, 'conv'))


def test_labels_that_the_self_check_would_refuse_are_warned_of(caplog):
    require_mixed(MixedReport(1, 0.985, 10.0, 'conv'))
    assert 'keeps 98.50 % of the labels only' in caplog.text


def mixed_of(folder):
    return onnx.load(folder / 'model_fp16.onnx')


def test_sampling_and_its_locations_are_float32_in_the_real_network(tiny_folder):
    mixed = mixed_of(tiny_folder)
    types = types_of(mixed)
    calls = [node for node in mixed.graph.node if is_sampling(node)]
    samplers = [node for node in mixed.graph.node if node.op_type == 'GridSample']
    assert len(calls) == 4 and len(samplers) == 1  # 2 fusion, 1 cross, 1 self; 1 lift
    for node in (*calls, *samplers):
        positions = (0, 3, 4) if is_sampling(node) else (0, 1)
        assert {types[node.input[i]] for i in positions} == {FLOAT}
    layers = [node for node in mixed.graph.node if node.op_type in ('Conv', 'MatMul')]
    assert len(layers) > 50
    assert {types[node.output[0]] for node in layers} == {HALF}
    assert [f.name for f in mixed.functions] == ['MultiscaleDeformableAttnPlugin_TRT']


def test_inputs_and_outputs_stay_those_of_the_contract(tiny_folder):
    def borders(name):
        graph = onnx.load(tiny_folder / name).graph
        return [
            (
                v.name,
                v.type.tensor_type.elem_type,
                [d.dim_value for d in v.type.tensor_type.shape.dim],
            )
            for v in (*graph.input, *graph.output)
        ]

    assert borders('model_fp16.onnx') == borders('model.onnx')


def test_labels_survive_float16_on_random_cameras(tiny_folder):
    """With honest rounding; and as ONNX Runtime runs the file itself, in float32 with casts.

    These weights are random: many voxels lie near a tie. Trained ones are tested below.
    """
    fp32 = open_session(tiny_folder / 'model.onnx', 1)
    inputs = random_inputs((48, 160), 4, seed=31)
    labels = [fp32.run([LABELS], arrays)[0] for arrays in inputs]
    report = measure_mixed(tiny_folder / 'model_fp16.onnx', inputs, labels, threads=1)
    assert report.labels >= 0.98 and 0 < report.largest < 3e4
    itself = open_session(tiny_folder / 'model_fp16.onnx', 1)
    shares = [
        (itself.run([LABELS], arrays)[0] == expected).mean()
        for arrays, expected in zip(inputs, labels, strict=True)
    ]
    assert min(shares) >= 0.98


def shipped(repository):
    folder = repository / 'models' / 'mid'
    return folder / 'model_fp16.onnx', open_session(folder / 'model.onnx')


def test_shipped_weights_survive_float16_on_their_golden_frame(repository):
    from cigocc_ros.core.manifest import load_manifest
    from cigocc_ros.runtime.self_check import load_golden

    folder = repository / 'models' / 'mid'
    golden = load_golden(folder, load_manifest(folder))
    mixed, _ = shipped(repository)
    report = measure_mixed(mixed, [golden.inputs], [golden.outputs[LABELS]], 1)
    require_mixed(report)
    assert report.labels >= 0.995


def test_shipped_weights_survive_float16_on_real_frames(repository, shared_dir):
    from cigocc_ros.data.camera_frames import sequence_frame
    from cigocc_ros.data.kitti_sequence import KittiSequence
    from cigocc_ros.runtime.preprocess import Preprocessor

    mixed, fp32 = shipped(repository)
    unsaid = {'semantic_prior': np.zeros(fp32.get_inputs()[-1].shape, dtype=np.uint8)}
    preprocess = Preprocessor(tuple(fp32.get_inputs()[0].shape[1:3]))
    inputs = []
    for name, prior in (('00', 'stereo'), ('05', 'none')):
        sequence = KittiSequence(shared_dir / 'data' / 'kitti_mini' / 'sequences' / name)
        frame = sequence_frame(sequence, sequence.frame_ids[0], prior)
        inputs.append(preprocess(frame) | unsaid)
    labels = [fp32.run([LABELS], arrays)[0] for arrays in inputs]
    report = measure_mixed(mixed, inputs, labels, threads=1)
    require_mixed(report)
    assert report.labels >= 0.995
