"""The builder against real TensorRT-RTX, which parses and compiles without a GPU."""

import json
import shutil
from pathlib import Path

import pytest
from fixtures_engine import build_golden_model_dir, engine_files
from fixtures_rtx import rtx_versions, run_rtx

from cigocc_ros.core.manifest import file_spec, load_manifest, write_manifest

VERSIONS = rtx_versions()
CANCEL_AT_ONCE = """
import sys
from pathlib import Path
from cigocc_ros.core.manifest import load_manifest
from cigocc_ros.runtime.tensorrt.builder import build_engine
from cigocc_ros.runtime.loading import Loading, LoadingCancelled
from cigocc_ros.runtime.tensorrt.options import TensorRtOptions

loading, phases = Loading(), []

def report(progress):
    phases.append(progress.phase)
    if len(phases) > 20:
        loading.cancel()

folder = Path(sys.argv[1])
try:
    build_engine(folder, load_manifest(folder), TensorRtOptions(), report, loading)
except LoadingCancelled:
    print('cancelled after', len(phases))
"""


@pytest.fixture(scope='module')
def pristine(tmp_path_factory) -> Path:
    return build_golden_model_dir(tmp_path_factory.mktemp('rtx') / 'model')


@pytest.fixture
def model_dir(pristine, tmp_path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / 'model'))


def verb(version, model_dir, *words):
    module = ('-m', 'cigocc_ros.commands.main', 'build-engine', '--model', str(model_dir))
    return run_rtx(version, *module, *words)


@pytest.mark.parametrize('version', VERSIONS)
def test_it_parses_builds_and_describes(model_dir, version):
    done = verb(version, model_dir)
    assert done.returncode == 0, done.stderr
    assert 'building: 0 % after 0 s (Building engine)' in done.stdout
    (described,) = model_dir.glob('*.engine.json')
    sidecar = json.loads(described.read_text())
    assert sidecar['key']['library_version'] == version and sidecar['key']['gpu'] == 'any'
    assert sidecar['deserialised'] is False and sidecar['layers'] > 10
    assert described.with_suffix('').stat().st_size == sidecar['engine_bytes'] > 1000
    assert not list(model_dir.glob('*.timing'))  # RTX would look for a GPU
    assert 'is up to date' in verb(version, model_dir).stdout


@pytest.mark.parametrize('version', VERSIONS)
def test_it_can_be_cancelled(model_dir, version):
    done = run_rtx(version, '-c', CANCEL_AT_ONCE, str(model_dir))
    assert done.returncode == 0, done.stderr
    assert 'cancelled after' in done.stdout and not engine_files(model_dir)


def test_what_the_parser_refuses_names_the_node(model_dir):
    from onnx import TensorProto, helper, load_model, save_model

    path = model_dir / 'model.onnx'
    model = load_model(path)
    model.graph.node.append(
        helper.make_node('NonZero', ['labels'], ['where'], 'finds_the_occupied')
    )
    model.graph.output.append(helper.make_tensor_value_info('where', TensorProto.INT64, None))
    save_model(model, path)
    manifest = load_manifest(model_dir)
    manifest.files['onnx'] = file_spec(model_dir, 'model.onnx')
    write_manifest(model_dir, manifest)
    done = verb(VERSIONS[-1], model_dir)
    assert done.returncode == 2 and not engine_files(model_dir)
    assert "node 'finds_the_occupied' (NonZero)" in done.stderr
    assert 'Traceback' not in done.stderr


def test_versions_do_not_share_engines(model_dir):
    for version in VERSIONS:
        assert verb(version, model_dir).returncode == 0
    assert len(list(model_dir.glob('*.engine'))) == len(VERSIONS)
