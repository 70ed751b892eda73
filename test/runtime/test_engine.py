"""Engines: what they refuse before the first frame, and that they bind by name."""

import subprocess
import sys

import numpy as np
import onnx
import pytest
import yaml
from fixtures_tiny_model import build_tiny_model_dir, handmade_graph, write_onnx

from cigocc_ros.core.errors import EngineError, ManifestError
from cigocc_ros.core.manifest import file_spec, load_manifest, verified_content
from cigocc_ros.runtime import engine as engine_module
from cigocc_ros.runtime.engine import create_engine
from cigocc_ros.runtime.onnxruntime_engine import open_session
from cigocc_ros.runtime.predictor import Predictor, blank_frame
from cigocc_ros.runtime.preprocess import Preprocessor


def open_engine(model_dir, backend='onnxruntime'):
    return create_engine(backend, model_dir, load_manifest(model_dir), threads=1)


def edit_manifest(model_dir, edit):
    path = model_dir / 'manifest.yaml'
    content = yaml.safe_load(path.read_text())
    edit(content)
    path.write_text(yaml.safe_dump(content))


def replace_onnx(model_dir, edit):
    """Put an edited graph into the folder, with its right hash in the manifest."""
    graph = handmade_graph(load_manifest(model_dir))
    edit(graph)
    write_onnx(model_dir / 'model.onnx', graph)
    sha256 = file_spec(model_dir, 'model.onnx')
    edit_manifest(model_dir, lambda m: m['files'].update(onnx=vars(sha256)))


def make_inputs(manifest):
    return Preprocessor(manifest.image_size)(blank_frame(manifest.image_size))


def test_tensors_are_those_of_the_manifest(handmade_model):
    engine = open_engine(handmade_model)
    manifest = load_manifest(handmade_model)
    assert set(engine.inputs) == set(manifest.inputs)
    assert set(engine.outputs) == set(manifest.outputs)
    assert 'onnxruntime' in engine.name


def test_inputs_are_bound_by_name_not_by_order(handmade_model):
    engine = open_engine(handmade_model)
    arrays = make_inputs(load_manifest(handmade_model))
    backwards = dict(reversed(list(arrays.items())))
    first, second = engine.run(arrays), engine.run(backwards)
    assert set(first) == {'labels', 'occupied_probability', 'class_probability'}
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_a_model_of_0_1_0_has_two_outputs_and_an_occupancy_without_classes(tmp_path, frame):
    folder = build_tiny_model_dir(tmp_path / 'old', class_probability=False)
    old = Predictor.from_model_dir(folder, threads=1)
    assert old(frame).class_probability is None
    new = Predictor.from_model_dir(build_tiny_model_dir(tmp_path / 'new'), threads=1)
    sure = new(frame).class_probability
    assert sure is not None and len(np.unique(sure)) > 50
    assert np.array_equal(new(frame).labels, old(frame).labels)


def test_tampered_onnx_is_refused_before_it_is_loaded(model_dir, monkeypatch):
    path = model_dir / 'model.onnx'
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    import onnxruntime

    monkeypatch.setattr(onnxruntime, 'InferenceSession', lambda *a, **k: pytest.fail('loaded'))
    with pytest.raises(ManifestError, match='sha256 .* found, .* expected'):
        open_engine(model_dir)


def test_truncated_onnx_is_refused(model_dir):
    path = model_dir / 'model.onnx'
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(ManifestError, match='bytes found'):
        open_engine(model_dir)


def test_missing_onnx_is_named(model_dir):
    (model_dir / 'model.onnx').unlink()
    with pytest.raises(ManifestError, match=r'model\.onnx: missing'):
        open_engine(model_dir)


@pytest.mark.parametrize(
    ('content', 'error', 'message'),
    [
        (b'not a model at all', ManifestError, 'no ONNX file'),
        (b'\x08\x07', ManifestError, 'no ONNX file: it names no opset'),
        (b'\x08\x0a\x42\x02\x10\x12', EngineError, 'cannot load'),  # opset 18, without a graph
    ],
)
def test_file_that_is_no_onnx_is_refused(model_dir, content, error, message):
    (model_dir / 'model.onnx').write_bytes(content)
    spec = file_spec(model_dir, 'model.onnx')
    edit_manifest(model_dir, lambda m: m['files'].update(onnx=vars(spec)))
    with pytest.raises(error, match=message):
        open_engine(model_dir)


def rename_output(graph):
    graph.output[1].name = graph.node[-1].output[0] = 'occupied'


def change_dtype(graph):
    graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT32
    graph.node[-2].attribute[0].i = onnx.TensorProto.INT32


def change_shape(graph):
    graph.input[1].type.tensor_type.shape.dim[1].dim_value = 96
    graph.initializer[[t.name for t in graph.initializer].index('flat_depth')].CopyFrom(
        onnx.numpy_helper.from_array(np.array([96 * 160]), 'flat_depth')
    )


@pytest.mark.parametrize('backend', ['onnxruntime', 'openvino'])
@pytest.mark.parametrize('where', ['manifest', 'file'])
def test_another_opset_than_the_manifest_says_is_refused(model_dir, backend, where):
    """GridSample of opset 20 is nearest to TensorRT up to 11.1: the file must say what it is."""
    if where == 'manifest':
        edit_manifest(model_dir, lambda m: m.update(opset=17))
    else:
        model = onnx.load(model_dir / 'model.onnx')
        model.opset_import.insert(0, onnx.helper.make_opsetid('another.domain', 3))
        model.opset_import[1].version = 20
        onnx.save_model(model, model_dir / 'model.onnx')
        spec = file_spec(model_dir, 'model.onnx')
        edit_manifest(model_dir, lambda m: m['files'].update(onnx=vars(spec)))
    found = '18 found, 17' if where == 'manifest' else '20 found, 18'
    with pytest.raises(ManifestError, match=rf'model\.onnx: opset {found} expected'):
        open_engine(model_dir, backend)


def test_mixed_int8_is_of_the_opset_whose_scales_may_be_float16(model_dir):
    model = onnx.load(model_dir / 'model.onnx')
    model.opset_import[0].version = 19
    onnx.save_model(model, model_dir / 'model.onnx')
    spec = file_spec(model_dir, 'model.onnx', 'mixed_int8')
    edit_manifest(model_dir, lambda m: m['files'].update(onnx=vars(spec)))
    assert verified_content(model_dir, load_manifest(model_dir), 'onnx')
    spec = file_spec(model_dir, 'model.onnx', 'mixed_fp16')
    edit_manifest(model_dir, lambda m: m['files'].update(onnx=vars(spec)))
    with pytest.raises(ManifestError, match='opset 19 found, 18 expected'):
        verified_content(model_dir, load_manifest(model_dir), 'onnx')


@pytest.mark.parametrize(
    'edit, expected, found',
    [
        (rename_output, 'occupied_probability uint8', 'occupied uint8'),
        (change_dtype, 'labels uint8', 'labels int32'),
        (change_shape, r'depth_prior float32 \(1, 48, 160\)', r'\(1, 96, 160\)'),
    ],
)
def test_other_tensors_than_promised_are_refused(model_dir, edit, expected, found):
    replace_onnx(model_dir, edit)
    with pytest.raises(ManifestError, match=f'expected {expected}.*found .*{found}'):
        open_engine(model_dir)


def test_manifest_off_the_contract_is_refused(model_dir):
    edit_manifest(model_dir, lambda m: m['inputs'][2].update(dtype='float64'))
    with pytest.raises(ManifestError, match='expected pixel_from_velo float32.*found .*float64'):
        open_engine(model_dir)


def test_manifest_grid_of_another_shape_is_refused(model_dir):
    edit_manifest(model_dir, lambda m: m['grid'].update(shape=[64, 64, 16]))
    with pytest.raises(ManifestError, match=r'labels uint8 \(1, 64, 64, 16\)'):
        open_engine(model_dir)


def test_folder_without_manifest_says_what_to_do(tmp_path):
    with pytest.raises(ManifestError, match=r'no manifest\.yaml.*cigocc export'):
        load_manifest(tmp_path)


@pytest.mark.parametrize(
    'spoil, message',
    [
        (lambda a: a.pop('depth_prior'), 'expected depth_prior float32'),
        (lambda a: a.update(image=a['image'].astype(np.float32)), 'found image float32'),
        (lambda a: a.update(image=a['image'][:, :40]), r'found image uint8 \(1, 40'),
    ],
)
def test_inputs_off_the_contract_are_refused(handmade_model, spoil, message):
    arrays = make_inputs(load_manifest(handmade_model))
    spoil(arrays)
    with pytest.raises(EngineError, match=message):
        open_engine(handmade_model).run(arrays)


def test_closed_engine_says_so(handmade_model):
    engine = open_engine(handmade_model)
    engine.close()
    with pytest.raises(EngineError, match='after close'):
        engine.run({})


def test_auto_takes_onnxruntime_and_logs_why(handmade_model, caplog):
    with caplog.at_level('INFO'):
        assert 'onnxruntime' in open_engine(handmade_model, 'auto').name
    assert 'because' in caplog.text


def test_tensorrt_says_what_is_missing_and_what_to_do(handmade_model):
    with pytest.raises(EngineError, match='TensorRT cannot be used.*backend onnxruntime'):
        open_engine(handmade_model, 'tensorrt')


def test_unknown_backend_lists_the_known(handmade_model):
    with pytest.raises(
        EngineError, match="'openvinoo'.*auto, onnxruntime, openvino, torch, tensorrt"
    ):
        open_engine(handmade_model, 'openvinoo')


@pytest.mark.parametrize('threads', [0, 3])
def test_onnxruntime_takes_the_threads_it_is_given_and_never_spins(handmade_model, threads):
    session = open_session(handmade_model / 'model.onnx', threads)
    options = session.get_session_options()
    assert options.intra_op_num_threads == threads and options.inter_op_num_threads == 1
    assert options.get_session_config_entry('session.intra_op.allow_spinning') == '0'
    assert session.get_providers() == ['CPUExecutionProvider']


def test_missing_onnxruntime_gives_the_install_line(handmade_model, monkeypatch):
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    with pytest.raises(EngineError, match=r"pip install 'numpy<\d' onnxruntime"):
        open_engine(handmade_model, 'onnxruntime')
    monkeypatch.setattr(engine_module.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(EngineError, match=r"pip install 'numpy<\d' onnxruntime"):
        open_engine(handmade_model, 'auto')


def test_prediction_imports_neither_torch_nor_onnx_nor_ros(handmade_model):
    code = (
        'import sys\n'
        "for name in ('torch', 'onnx', 'rclpy'): sys.modules[name] = None\n"
        'from cigocc_ros.runtime.predictor import Predictor\n'
        f'Predictor.from_model_dir({str(handmade_model)!r}, threads=1).warm_up()\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', code], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
