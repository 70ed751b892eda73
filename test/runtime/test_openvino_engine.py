"""OpenVINO: the same answers and the same refusals as ONNX Runtime, without torch."""

import subprocess
import sys

import numpy as np
import pytest
import yaml
from fixtures_tiny_model import handmade_graph, write_onnx

from cigocc_ros.core.errors import EngineError, ManifestError
from cigocc_ros.core.manifest import file_spec, load_manifest
from cigocc_ros.runtime.engine import create_engine
from cigocc_ros.runtime.openvino_engine import compile_model
from cigocc_ros.runtime.predictor import Predictor
from cigocc_ros.runtime.preprocess import Preprocessor

openvino = pytest.importorskip('openvino')


@pytest.fixture(scope='module')
def engine(handmade_model):
    return create_engine('openvino', handmade_model, load_manifest(handmade_model), threads=1)


@pytest.fixture
def arrays(frame):
    return Preprocessor((48, 160))(frame)


def replace_onnx(model_dir, edit):
    """Put an edited graph into the folder, with its right hash in the manifest."""
    graph = handmade_graph(load_manifest(model_dir))
    edit(graph)
    write_onnx(model_dir / 'model.onnx', graph)
    update_hash(model_dir)


def update_hash(model_dir):
    path = model_dir / 'manifest.yaml'
    content = yaml.safe_load(path.read_text())
    content['files']['onnx'] = vars(file_spec(model_dir, 'model.onnx'))
    path.write_text(yaml.safe_dump(content))


def open_engine(model_dir):
    return create_engine('openvino', model_dir, load_manifest(model_dir), threads=1)


def test_labels_are_those_of_onnxruntime(engine, handmade_model, arrays):
    other = create_engine('onnxruntime', handmade_model, load_manifest(handmade_model), 1)
    ours, theirs = engine.run(arrays), other.run(arrays)
    assert len(np.unique(theirs['labels'])) > 5
    assert all((ours[name] == theirs[name]).mean() > 0.999 for name in theirs)
    assert 'openvino' in engine.name
    assert set(engine.inputs) == set(other.inputs) and set(engine.outputs) == set(other.outputs)


def test_inputs_are_bound_by_name_not_by_order(engine, arrays):
    first, second = engine.run(arrays), engine.run(dict(reversed(list(arrays.items()))))
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_outputs_are_the_callers_to_keep(engine, arrays):
    kept = engine.run(arrays)
    before = kept['labels'].copy()
    black = {**arrays, 'image': np.zeros_like(arrays['image'])}
    assert not engine.run(black)['labels'].any()
    assert before.any() and np.array_equal(kept['labels'], before)


def test_predictor_runs_on_it(handmade_model, frame):
    predictor = Predictor.from_model_dir(handmade_model, 'openvino', threads=1)
    predictor.warm_up()
    assert predictor(frame).labels.any()


def test_threads_are_those_it_is_given_and_precision_is_full(handmade_model):
    compiled = compile_model(handmade_model / 'model.onnx', 2)
    assert compiled.get_property('INFERENCE_NUM_THREADS') == 2
    precision = compiled.get_property('INFERENCE_PRECISION_HINT')
    assert precision == openvino.Type.f32


def test_tampered_onnx_is_refused_before_it_is_loaded(model_dir, monkeypatch):
    path = model_dir / 'model.onnx'
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    monkeypatch.setattr(openvino, 'Core', lambda: pytest.fail('loaded'))
    with pytest.raises(ManifestError, match='sha256 .* found, .* expected'):
        open_engine(model_dir)


def test_file_that_is_no_onnx_is_an_engine_error(model_dir):
    (model_dir / 'model.onnx').write_bytes(b'\x08\x0a\x42\x02\x10\x12')  # opset 18, no graph
    update_hash(model_dir)
    with pytest.raises(EngineError, match='cannot load'):
        open_engine(model_dir)


def rename_output(graph):
    graph.output[1].name = graph.node[-1].output[0] = 'occupied'


def free_dimension(graph):
    graph.input[1].type.tensor_type.shape.dim[1].dim_param = 'rows'


@pytest.mark.parametrize(
    'edit, error, message',
    [
        (
            rename_output,
            ManifestError,
            'expected occupied_probability uint8.*found occupied uint8',
        ),
        (free_dimension, EngineError, 'depth_prior .*static shape expected'),
    ],
)
def test_other_tensors_than_promised_are_refused(model_dir, edit, error, message):
    replace_onnx(model_dir, edit)
    with pytest.raises(error, match=message):
        open_engine(model_dir)


def test_inputs_off_the_contract_are_refused(engine, arrays):
    arrays['image'] = arrays['image'].astype(np.float32)
    with pytest.raises(EngineError, match='found image float32'):
        engine.run(arrays)


def test_closed_engine_says_so(handmade_model):
    engine = open_engine(handmade_model)
    engine.close()
    with pytest.raises(EngineError, match='after close'):
        engine.run({})


def test_missing_openvino_gives_the_install_line(handmade_model, monkeypatch):
    monkeypatch.setitem(sys.modules, 'openvino', None)
    with pytest.raises(EngineError, match=r"pip install 'numpy<\d' openvino"):
        open_engine(handmade_model)


def test_prediction_imports_neither_torch_nor_onnx_nor_onnxruntime(handmade_model):
    code = (
        'import sys\n'
        "for name in ('torch', 'onnx', 'onnxruntime', 'rclpy'): sys.modules[name] = None\n"
        'from cigocc_ros.runtime.predictor import Predictor\n'
        f"Predictor.from_model_dir({str(handmade_model)!r}, 'openvino', 1).warm_up()\n"
    )
    done = subprocess.run(
        [sys.executable, '-c', code], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
