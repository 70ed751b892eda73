"""The stock plugin is taken by every release that has it, and what is lost is told."""

import logging

import onnx
import pytest
from fixtures_engine import add_sampling_calls, build, build_golden_model_dir

from cigocc_ros.core.errors import EngineError
from cigocc_ros.core.installed import DEFAULT_MODEL, models_dir
from cigocc_ros.core.manifest import MIXED_ROLE, load_manifest
from cigocc_ros.core.onnx_file import SAMPLE_OP
from cigocc_ros.doctor.gpu import Accelerator
from cigocc_ros.doctor.models import check_engine_cache
from cigocc_ros.runtime.engine import create_engine
from cigocc_ros.runtime.predictor import Predictor
from cigocc_ros.runtime.tensorrt.gpus import find_gpu
from cigocc_ros.runtime.tensorrt.library import find_tensorrt
from cigocc_ros.runtime.tensorrt.network import parse_network, plugin_loss
from cigocc_ros.runtime.tensorrt.options import TensorRtOptions

RELEASES = ('10.3.0', '10.6.0', '10.7.0', '10.13.2', '10.14.1', '10.15.1', '10.16.2', '11.4.0')
SHIPPED = models_dir() / DEFAULT_MODEL


@pytest.fixture
def model_dir(tmp_path, fake_gpu):
    return add_sampling_calls(build_golden_model_dir(tmp_path / 'model'))


@pytest.fixture(scope='module', params=['onnx', MIXED_ROLE])
def shipped(request):
    return (SHIPPED / load_manifest(SHIPPED).file(request.param).path).read_bytes()


def calls_of(content):
    return sum(node.op_type == SAMPLE_OP for node in onnx.load_from_string(content).graph.node)


@pytest.mark.parametrize('version', RELEASES)
def test_every_release_takes_the_plugin_of_the_shipped_model(
    fake_gpu, monkeypatch, shipped, version
):
    monkeypatch.setattr(fake_gpu.trt, '__version__', version)
    parsed = parse_network(find_tensorrt(), shipped, 'model.onnx', stock_plugins=True)
    assert parsed.samplings == parsed.plugins == calls_of(shipped)
    plain = parsed.network.layers.count('GRID_SAMPLE')
    parsed = parse_network(find_tensorrt(), shipped, 'model.onnx', stock_plugins=False)
    assert (parsed.samplings, parsed.plugins) == (calls_of(shipped), 0)
    assert parsed.network.layers.count('GRID_SAMPLE') == plain + calls_of(shipped)


@pytest.mark.parametrize('version', RELEASES)
def test_an_engine_with_plugins_answers_as_stored(model_dir, fake_gpu, monkeypatch, version):
    monkeypatch.setattr(fake_gpu.trt, '__version__', version)
    sidecar = build(model_dir).sidecar
    assert (sidecar.plugins, sidecar.samplings) == (2, 2)
    predictor = Predictor.from_model_dir(model_dir, 'tensorrt')
    predictor.warm_up()
    predictor.close()


def doctor(model_dir):
    accelerator = Accelerator(find_tensorrt(), find_gpu())
    return check_engine_cache(model_dir, load_manifest(model_dir), TensorRtOptions(), accelerator)


def test_a_library_without_the_plugin_is_told_of_in_log_sidecar_and_doctor(
    model_dir, fake_gpu, monkeypatch, caplog
):
    build(model_dir)
    assert doctor(model_dir).status == 'OK' and '2 plugins' in doctor(model_dir).found
    monkeypatch.setattr(fake_gpu.trt._parser, 'STOCK_PLUGINS', {(SAMPLE_OP, '2', '')})
    fake_gpu.trt.registry.clear()
    sidecar = build(model_dir, force=True).sidecar
    assert (sidecar.plugins, sidecar.samplings) == (0, 2)
    assert f'took 0 of 2 deformable samplings as its plugin {SAMPLE_OP}' in caplog.text
    caplog.clear()
    create_engine('tensorrt', model_dir, load_manifest(model_dir)).close()
    assert 'took 0 of 2 deformable samplings' in caplog.text  # at every start, of the node too
    finding = doctor(model_dir)
    assert finding.status == 'WARN' and 'took 0 of 2' in finding.found
    assert finding.fix.endswith('--force')


def test_who_asked_for_plain_operators_is_not_warned(model_dir, caplog):
    assert build(model_dir, stock_plugins=False).sidecar.samplings == 2
    assert 'deformable samplings' not in caplog.text


def test_a_plugin_that_cannot_be_used_is_parsed_again_and_told(
    model_dir, fake_gpu, monkeypatch, caplog
):
    parse = fake_gpu.trt.OnnxParser.parse

    def refusing(self, content):
        if not onnx.load_from_string(content).functions:
            self.errors.append(fake_gpu.trt._ParserError('no such fields', 'call', SAMPLE_OP))
            return False
        return parse(self, content)

    monkeypatch.setattr(fake_gpu.trt.OnnxParser, 'parse', refusing)
    for version in RELEASES:
        monkeypatch.setattr(fake_gpu.trt, '__version__', version)
        caplog.clear()
        sidecar = build(model_dir).sidecar
        assert (sidecar.plugins, sidecar.samplings) == (0, 2)
        assert 'no such fields; parsed again with plain operators in its place' in caplog.text
        assert 'took 0 of 2' in caplog.text


def test_a_file_that_no_parser_takes_is_refused_once(fake_gpu, shipped, monkeypatch):
    monkeypatch.setenv('FAKE_TENSORRT_FAIL', 'parse')
    with pytest.raises(EngineError, match='cannot parse it'):
        parse_network(find_tensorrt(), shipped, 'model.onnx', stock_plugins=True)


@pytest.mark.parametrize(('taken', 'said'), [(5, ''), (6, ''), (3, 'took 3 of 5'), (0, '0 of 5')])
def test_what_is_lost_is_said_in_numbers(taken, said):
    assert (said in plugin_loss('tensorrt 10.3', taken, 5)) and bool(said) == (taken < 5)


def test_verbose_lines_of_the_library_go_nowhere_and_information_is_debugging(fake_gpu, caplog):
    from cigocc_ros.runtime.tensorrt.library import library_log

    caplog.set_level(logging.DEBUG)
    log, messages = library_log(find_tensorrt())
    messages.take()
    severities = fake_gpu.trt.ILogger.Severity
    for name in ('VERBOSE', 'INFO', 'WARNING', 'ERROR'):
        log.log(severities[name], f'a line of {name}')
    levels = {record.getMessage(): record.levelname for record in caplog.records}
    assert levels == {
        'a line of INFO': 'DEBUG',
        'a line of WARNING': 'WARNING',
        'a line of ERROR': 'ERROR',
    }
    assert messages.take() == 'a line of ERROR'
