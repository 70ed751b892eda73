"""The fake parser reads the shipped model as the releases of TensorRT do."""

from types import SimpleNamespace

import onnx
import pytest
from fixtures_engine import FED, add_sampling_calls, build, build_golden_model_dir
from onnx import helper

from cigocc_ros.core.errors import EngineError
from cigocc_ros.core.installed import DEFAULT_MODEL, models_dir
from cigocc_ros.export.sampling_function import sampling_function
from cigocc_ros.runtime.predictor import Predictor
from cigocc_ros.runtime.tensorrt.options import TensorRtOptions

SAMPLE_OP = 'MultiscaleDeformableAttnPlugin_TRT'
"""What the shipped model calls deformable sampling."""
FUNCTION, PLUGIN = 'function', 'plugin'
JETPACK_6, JETPACK_7, JETPACK_7_2, NEWEST = '10.3.0', '10.13.3', '10.16.2', '11.4.0'


@pytest.fixture(scope='module')
def shipped():
    model = onnx.load_model(models_dir() / DEFAULT_MODEL / 'model_fp16.onnx')
    for node in model.graph.node:
        if node.op_type == SAMPLE_OP:
            del node.attribute[:]  # newer exports name the plugin there
    return model


def count(model, kind):
    return sum(node.op_type == kind for node in model.graph.node)


def with_namespace(model):
    changed = onnx.ModelProto.FromString(model.SerializeToString())
    for node in changed.graph.node:
        if node.op_type == SAMPLE_OP:
            node.attribute.append(helper.make_attribute('plugin_namespace', ''))
    return changed


def without_functions(model):
    changed = onnx.ModelProto.FromString(model.SerializeToString())
    del changed.functions[:]
    return changed


def read(fake_gpu, monkeypatch, version, model, flags=0):
    """Return how many plugins and samplers a release makes of a model, and what it logs."""
    trt, said = fake_gpu.trt, []
    monkeypatch.setattr(trt, '__version__', version)
    trt.registry.clear()
    trt.init_libnvinfer_plugins(None, '')
    network = trt.Network(SimpleNamespace(log=lambda severity, text: said.append(text)))
    parser = trt.OnnxParser(network, network.logger)
    parser.flags = flags
    if not parser.parse(model.SerializeToString()):
        return parser.get_error(0).desc()
    assert not network.misbound
    types = [network.get_layer(index).type.name for index in range(network.num_layers)]
    return types.count('PLUGIN_V2'), types.count('GRID_SAMPLE'), said


@pytest.mark.parametrize(
    ('version', 'as_it_is', 'namespace'),
    [
        (JETPACK_6, FUNCTION, FUNCTION),
        ('10.7.0', PLUGIN, PLUGIN),
        (JETPACK_7, PLUGIN, PLUGIN),
        ('10.14.1', PLUGIN, PLUGIN),
        ('10.15.1', FUNCTION, PLUGIN),
        (JETPACK_7_2, FUNCTION, PLUGIN),
        (NEWEST, FUNCTION, PLUGIN),
    ],
)
def test_function_or_plugin(fake_gpu, monkeypatch, shipped, version, as_it_is, namespace):
    calls, own = count(shipped, SAMPLE_OP), count(shipped, 'GridSample')
    cases = (shipped, as_it_is), (with_namespace(shipped), namespace)
    for model, taken in (*cases, (without_functions(shipped), PLUGIN)):
        plugins, samplers, said = read(fake_gpu, monkeypatch, version, model)
        expected = (calls, own) if taken == PLUGIN else (0, own + calls)
        assert (plugins, samplers) == expected and calls
        words = f'Found registered {taken}', f'Found registered local {taken}'
        if model.functions:
            assert sum(text.startswith(words) for text in said) == calls


def test_overriding_replaces_operators_too(fake_gpu, monkeypatch, shipped):
    """The stock plugin ScatterND takes the operator of that name along: never set the flag."""
    calls, scatters = count(shipped, SAMPLE_OP), count(shipped, 'ScatterND')
    flags = 1 << fake_gpu.trt.OnnxParserFlag.ENABLE_PLUGIN_OVERRIDE
    found, _, _ = read(fake_gpu, monkeypatch, NEWEST, shipped, flags)
    assert scatters and found == calls + scatters


def test_rtx_has_no_plugins_and_wants_the_function(fake_gpu, monkeypatch, shipped):
    samplers = count(shipped, SAMPLE_OP) + count(shipped, 'GridSample')
    assert read(fake_gpu, monkeypatch, '1.7.1', shipped)[:2] == (0, samplers)
    refused = read(fake_gpu, monkeypatch, '1.7.1', without_functions(shipped))
    assert refused == f'No importer registered for op: {SAMPLE_OP}'


@pytest.mark.parametrize(('version', 'agrees'), [(JETPACK_6, False), ('10.8.0', True)])
def test_a_function_reads_a_tensor_of_the_same_name_outside(
    tmp_path, fake_gpu, monkeypatch, caplog, version, agrees
):
    """Before 10.8; the build succeeds, the answers are wrong, and the self-check says so."""
    monkeypatch.setattr(fake_gpu.trt, '__version__', version)
    folder = build_golden_model_dir(tmp_path / 'model')
    taken = sampling_function().input[0]
    add_sampling_calls(folder, names=[*FED[:-1], taken])
    build(folder, stock_plugins=False)
    assert ('Behavior may be incorrect' in caplog.text) is not agrees
    options = TensorRtOptions(stock_plugins=False, build_missing=False)
    predictor = Predictor.from_model_dir(folder, 'tensorrt', tensorrt=options)
    try:
        if agrees:
            predictor.warm_up()
        else:
            with pytest.raises(EngineError, match='self-check failed'):
                predictor.warm_up()
    finally:
        predictor.close()
