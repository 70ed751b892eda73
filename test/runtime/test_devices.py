"""A GPU without TensorRT is used, a GPU that cannot be used is never silently a CPU."""

import json
from contextlib import closing

import numpy as np
import pytest
from fixtures_engine import build_golden_model_dir
from fixtures_onnxruntime import ABSENT, CPU, CUDA, RAISES, SILENT, FakeOnnxRuntime

from cigocc_ros.commands import evaluate, infer, submit
from cigocc_ros.core.errors import ConfigError, EngineError
from cigocc_ros.core.manifest import load_manifest
from cigocc_ros.runtime import onnxruntime_engine, torch_engine
from cigocc_ros.runtime.engine import create_engine
from cigocc_ros.runtime.predictor import Predictor

NO_TENSORRT = 'there is no TensorRT: TensorRT cannot be used'


@pytest.fixture(scope='module')
def model_dir(tmp_path_factory):
    return build_golden_model_dir(tmp_path_factory.mktemp('models') / 'golden')


@pytest.fixture
def runtime(monkeypatch, fake_driver):
    """Return the stand-in of ONNX Runtime, on a machine with a GPU and without TensorRT."""
    made = FakeOnnxRuntime()
    monkeypatch.setattr(onnxruntime_engine, '_import_onnxruntime', lambda: made)
    return made


def two_gpus(monkeypatch):
    """Let CUDA count two GPUs the other way round than nvidia-smi."""
    import fake_cuda

    names = [
        fake_cuda.gpu(name, '8.6', 26, 3072, 12_282, bus) for name, bus in (('B', 5), ('A', 3))
    ]
    monkeypatch.setenv('FAKE_GPUS', ';'.join(names))


def opened(model_dir, backend='auto', device='auto'):
    return closing(create_engine(backend, model_dir, load_manifest(model_dir), 1, device=device))


def test_auto_takes_the_gpu_by_onnxruntime_where_there_is_no_tensorrt(runtime, model_dir, caplog):
    caplog.set_level('INFO')
    with opened(model_dir) as engine:
        assert engine.name.endswith(' CUDA 0')
    (line,) = [text for text in caplog.messages if text.startswith('backend auto')]
    assert line.startswith(f'backend auto: onnxruntime on a GPU, because {NO_TENSORRT}')
    (session,) = runtime.sessions
    assert session.asked == [(CUDA, {'device_id': '0', 'use_tf32': '0'}), CPU]


def test_the_gpu_is_the_one_that_nvidia_smi_shows(runtime, model_dir, monkeypatch):
    two_gpus(monkeypatch)
    for device, ordinal in (('0', '1'), ('cuda:1', '0'), ('GPU-13', '1'), ('cuda', '0')):
        with opened(model_dir, 'onnxruntime', device) as engine:
            assert engine.name.endswith(f' CUDA {ordinal}')
        assert runtime.sessions[-1].asked[0][1]['device_id'] == ordinal
    for backend in ('auto', 'onnxruntime'):
        with pytest.raises(ConfigError, match="device '2': expected the number"):
            opened(model_dir, backend, '2')


def test_the_stored_answers_are_compared_on_the_gpu_too(runtime, model_dir, monkeypatch):
    with closing(Predictor.from_model_dir(model_dir, 'onnxruntime', device='cuda')) as predictor:
        predictor.warm_up()
        session = runtime.sessions[-1]
        right = session._session.run
        wrong = lambda names, arrays: [answer ^ 1 for answer in right(names, arrays)]  # noqa: E731
        monkeypatch.setattr(session, 'run', wrong)
        with pytest.raises(EngineError, match='CUDA 0: self-check failed'):
            predictor.warm_up()


@pytest.mark.parametrize(
    ('mode', 'said'),
    [
        (SILENT, 'could not be loaded, ONNX Runtime took .*CPUExecutionProvider.*onnxruntime-gpu'),
        (RAISES, 'no CUDA-capable device'),
        (ABSENT, 'this onnxruntime has no CUDAExecutionProvider, only .*onnxruntime-gpu'),
    ],
)
def test_a_provider_that_is_not_there_is_refused_or_told(runtime, model_dir, caplog, mode, said):
    caplog.set_level('INFO')
    runtime.mode = mode
    for backend in ('onnxruntime', 'auto'):
        with pytest.raises(EngineError, match=f"device 'cuda'.*{said}"):
            opened(model_dir, backend, 'cuda')
        caplog.clear()
        with opened(model_dir, backend) as engine:
            assert engine.name.endswith(' CPU')
        warned = [r.getMessage() for r in caplog.records if r.levelname == 'WARNING']
        assert bool(warned) == (mode != ABSENT), warned
        assert all('onnxruntime runs on the CPU: ' in text for text in warned)
        if backend == 'auto' and mode == ABSENT:
            assert f'onnxruntime on the CPU, because {NO_TENSORRT}' in caplog.text
            assert 'no CUDAExecutionProvider' in caplog.text


def test_without_a_driver_the_cpu_is_taken_and_a_gpu_refused(model_dir, monkeypatch):
    monkeypatch.setattr(onnxruntime_engine, '_import_onnxruntime', FakeOnnxRuntime)
    with opened(model_dir, 'onnxruntime') as engine:
        assert engine.name.endswith(' CPU')
    with pytest.raises(EngineError, match="device 'cuda:0'.*libcuda"):
        opened(model_dir, 'onnxruntime', 'cuda:0')


def test_device_cpu_asks_no_gpu(runtime, model_dir, caplog):
    caplog.set_level('INFO')
    with opened(model_dir, 'auto', 'cpu') as engine:
        assert engine.name.endswith(' CPU')
    assert 'backend auto: onnxruntime on the CPU, because device is cpu' in caplog.text
    assert runtime.sessions[-1].asked == [CPU]


def test_a_gpu_that_fails_loses_the_frame_and_is_not_replaced_by_the_cpu(runtime, model_dir):
    with opened(model_dir, 'onnxruntime', 'cuda') as engine:
        inputs = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in engine.inputs}
        assert engine.run(inputs)
        runtime.sessions[-1].fails_at_run = True
        with pytest.raises(EngineError, match='CUDA 0: CUDA error 700'):
            engine.run(inputs)
        assert runtime.sessions[-1].get_providers() == [CUDA, CPU]


def test_libraries_of_the_nvidia_wheels_are_looked_for_quietly(runtime, model_dir, capsys):
    with opened(model_dir, 'onnxruntime', 'cuda'):
        assert runtime.preloaded == 1
    assert capsys.readouterr().out == ''


@pytest.mark.parametrize('device', ['cuda', '0', 'GPU-1'])
def test_backends_of_the_cpu_refuse_a_gpu(model_dir, device):
    with pytest.raises(EngineError, match=f'device {device!r}: backend openvino runs on the CPU'):
        opened(model_dir, 'openvino', device)
    with pytest.raises(EngineError, match='device cpu: backend tensorrt runs on GPUs'):
        opened(model_dir, 'tensorrt', 'cpu')


def test_tensorrt_comes_first_and_runs_on_the_gpu_that_is_named(
    model_dir, fake_gpu, monkeypatch, tmp_path, caplog
):
    two_gpus(monkeypatch)
    caplog.set_level('INFO')
    folder = build_golden_model_dir(tmp_path / 'model')
    with opened(folder, 'auto', '0') as engine:
        assert engine.name.endswith('on A')
    assert 'backend auto: tensorrt, because library and GPU are there' in caplog.text
    (path,) = folder.glob('*.engine.json')
    assert json.loads(path.read_text())['key']['gpu'] == 'A'
    with opened(folder, 'tensorrt', '1') as engine:
        assert engine.name.endswith('on B')
    with pytest.raises(ConfigError, match="device '7'"):
        opened(folder, 'auto', '7')


class FakeTorch:
    """The part of torch that says where it runs; tensors stay on the CPU."""

    __version__ = '2.13.0+cu130'

    def __init__(self, gpus):
        import torch

        self._torch = torch
        self.asked = []
        self.cuda = type(
            'Cuda',
            (),
            {
                'is_available': staticmethod(lambda: gpus > 0),
                'get_device_name': staticmethod(lambda ordinal: f'GPU number {ordinal}'),
            },
        )
        flag = type('Flag', (), {'allow_tf32': True})
        self.backends = type('B', (), {'cudnn': flag(), 'cuda': type('C', (), {'matmul': flag()})})
        self.version = type('V', (), {'cuda': '13.0' if gpus else None})

    def device(self, *where):
        self.asked.append(where)
        return self._torch.device('cpu')

    def __getattr__(self, name):
        return getattr(self._torch, name)


def test_torch_runs_on_the_gpu_without_tf32(tiny_checkpoint, fake_driver, monkeypatch):
    two_gpus(monkeypatch)
    folder = tiny_checkpoint[0]
    torch = FakeTorch(gpus=2)
    monkeypatch.setattr(torch_engine, '_import_torch', lambda: torch)
    for device, ordinal in (('auto', 0), ('0', 1), ('cuda:1', 0)):
        with closing(Predictor.from_model_dir(folder, 'torch', device=device)) as predictor:
            predictor.warm_up()
            assert predictor.engine.name.endswith(f'CUDA {ordinal}, GPU number {ordinal}')
        assert torch.asked[-1] == ('cuda', ordinal)
    assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32
    with closing(Predictor.from_model_dir(folder, 'torch', device='cpu')) as predictor:
        assert predictor.engine.name.endswith(' CPU')


def test_torch_without_cuda_refuses_a_gpu(tiny_checkpoint, monkeypatch):
    monkeypatch.setattr(torch_engine, '_import_torch', lambda: FakeTorch(gpus=0))
    with pytest.raises(
        EngineError, match=r"device '0': torch .* sees no GPU \(built for CUDA: no"
    ):
        Predictor.from_model_dir(tiny_checkpoint[0], 'torch', device='0')
    with closing(Predictor.from_model_dir(tiny_checkpoint[0], 'torch')) as predictor:
        assert predictor.engine.name.endswith(' CPU')


def test_a_checkpoint_is_read_once(tiny_checkpoint, monkeypatch):
    from cigocc_ros.model import build

    loaded, load = [], build.load_checkpoint
    monkeypatch.setattr(
        build, 'load_checkpoint', lambda folder: loaded.append(folder) or load(folder)
    )
    Predictor.from_model_dir(tiny_checkpoint[0], 'torch').close()
    assert loaded == [tiny_checkpoint[0]]


@pytest.mark.parametrize('verb', [evaluate, infer, submit])
def test_commands_take_a_device(verb):
    import argparse

    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    action = parser._option_string_actions['--device']
    assert action.default == 'auto' and 'nvidia-smi' in action.help
