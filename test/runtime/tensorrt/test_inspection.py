"""What an engine's layers are and take, by the library's inspector and profiler."""

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from fixtures_engine import WAIT_S, build_golden_model_dir, engine_files

from cigocc_ros.core.errors import EngineError
from cigocc_ros.core.manifest import load_manifest
from cigocc_ros.runtime import ranges
from cigocc_ros.runtime.loading import Loading
from cigocc_ros.runtime.predictor import Predictor, blank_frame
from cigocc_ros.runtime.tensorrt import inspection
from cigocc_ros.runtime.tensorrt.inspection import inspect_engine, read_layers
from cigocc_ros.runtime.tensorrt.options import TensorRtOptions


@pytest.fixture
def model_dir(tmp_path, fake_gpu):
    return build_golden_model_dir(tmp_path / 'model')


def inspected(model_dir):
    manifest = load_manifest(model_dir)
    return inspect_engine(model_dir, manifest, TensorRtOptions(), lambda _: None, Loading())


def test_layers_with_type_tactic_and_time(model_dir, fake_gpu):
    found, path = inspected(model_dir)
    (config,) = fake_gpu.trt.built
    assert config.profiling_verbosity == fake_gpu.trt.ProfilingVerbosity.DETAILED
    assert [(layer.types, layer.milliseconds) for layer in found.layers] == [
        (('fp16',), 0.25),
        (('fp16',), 1.5),
        (('fp32',), 0.5),
        (('uint8',), 0.0),
    ]
    assert found.layers[1].kind == 'CaskConvolution' and found.layers[1].tactic.startswith(
        'tactic'
    )
    assert found.total_ms == pytest.approx(2.25)
    stored = json.loads(path.read_text())
    assert [layer['name'] for layer in stored['layers']] == [layer.name for layer in found.layers]
    assert path.parent == model_dir and not engine_files(model_dir)  # nothing that would be loaded


def test_engines_to_keep_are_built_without_details(model_dir, fake_gpu):
    from fixtures_engine import build

    build(model_dir)
    (config,) = fake_gpu.trt.built
    assert config.profiling_verbosity == fake_gpu.trt.ProfilingVerbosity.LAYER_NAMES_ONLY


def test_times_are_medians_and_layers_of_one_name_are_summed(model_dir, fake_gpu, monkeypatch):
    runs = iter(range(inspection.RUNS))

    def report(context, stream):
        run = next(runs) if context.profiler is not None else 0
        for name, milliseconds in (('stem', 1.0), ('stem', 2.0), ('geometry', 100.0 * (run == 3))):
            if context.profiler is not None:
                context.profiler.report_layer_time(name, milliseconds)
        return execute(context, stream)

    execute = fake_gpu.trt.Context.execute_async_v3
    kernel = ('kgen', 'Float', 0.0)
    monkeypatch.setattr(fake_gpu.trt, 'LAYERS', {'stem': kernel, 'geometry': kernel})
    monkeypatch.setattr(fake_gpu.trt.Context, 'execute_async_v3', report)
    found, _ = inspected(model_dir)
    assert [layer.milliseconds for layer in found.layers] == [3.0, 0.0]


@pytest.mark.parametrize(
    ('text', 'kind'),
    [
        ('Half', 'fp16'),
        ('Row major linear FP16 format', 'fp16'),
        ('Float', 'fp32'),
        ('Row major linear FP32', 'fp32'),
        ('Thirty-two wide channel vectorized row major Int8 format', 'int8'),
        ('UInt8', 'uint8'),
        ('BFloat16', 'bf16'),
        ('Int64', 'int64'),
        ('N/A due to dynamic shapes', 'N/A due to dynamic shapes'),
    ],
)
def test_both_ways_of_writing_a_type_are_read(text, kind):
    layer = {'Name': 'a', 'LayerType': 'kgen', 'Outputs': [{'Format/Datatype': text}]}
    (found,) = read_layers(json.dumps({'Layers': [layer]}), {})
    assert found.types == (kind,) and found.milliseconds is None


@pytest.mark.parametrize('text', ['{"Layers": ["stem"]}', '{}', 'no JSON', '{"Layers": null}'])
def test_names_alone_are_an_error(text):
    with pytest.raises(EngineError, match='gave no details of layers'):
        list(read_layers(text, {}))


def test_the_command_prints_tables(model_dir):
    words = [sys.executable, '-m', 'cigocc_ros.commands.main', 'build-engine', '--inspect']
    done = subprocess.run(
        [*words, '--model', str(model_dir)], capture_output=True, text=True, timeout=WAIT_S
    )
    assert done.returncode == 0, done.stderr
    assert 'fp32 on Fake GPU: 4 layers, 2.250 ms (median of 20 runs' in done.stdout
    assert '| fp16 | 2 | 1.750 |' in done.stdout
    slowest = done.stdout[done.stdout.index('slowest layers') :].splitlines()[2]
    assert slowest == '| 1.500 | fp16 | CaskConvolution | stem + relu [Convolution] |'
    assert done.stdout.rstrip().endswith('.layers.json')


def test_without_gpu_nothing_can_be_seen(model_dir, monkeypatch):
    monkeypatch.setenv('FAKE_GPUS', '')
    with pytest.raises(EngineError):
        inspected(model_dir)


def test_ranges_are_those_of_nvtx_where_it_is_installed(model_dir, monkeypatch):
    entered = []

    class Range:
        def __init__(self, name, domain):
            self.name = f'{domain}: {name}'

        def __enter__(self):
            entered.append(self.name)

        def __exit__(self, *_):
            entered.append(f'end of {self.name}')

    monkeypatch.setitem(sys.modules, 'nvtx', SimpleNamespace(annotate=Range))
    ranges._maker.cache_clear()
    try:
        predictor = Predictor.from_model_dir(model_dir, 'onnxruntime', 1, device='cpu')
        predictor(blank_frame(predictor.manifest.image_size))
        steps = ('preprocess', 'engine', 'postprocess')
        assert entered == [f'{a}cigocc: {step}' for step in steps for a in ('', 'end of ')]
    finally:
        ranges._maker.cache_clear()
        predictor.close()


def test_without_nvtx_ranges_do_nothing(monkeypatch):
    monkeypatch.setitem(sys.modules, 'nvtx', None)
    ranges._maker.cache_clear()
    with ranges.named_range('anything'):
        assert np.arange(3).sum() == 3
    ranges._maker.cache_clear()
