"""`cigocc build-engine` as a process, and as the node's builder process."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from fixtures_engine import WAIT_S, build, build_golden_model_dir, engine_files

from cigocc_ros.core.errors import EngineError
from cigocc_ros.core.manifest import load_manifest
from cigocc_ros.runtime.engine import create_engine
from cigocc_ros.runtime.loading import Loading, LoadingCancelled
from cigocc_ros.runtime.tensorrt.builder_process import build_in_process
from cigocc_ros.runtime.tensorrt.options import TensorRtOptions, build_command


@pytest.fixture
def model_dir(tmp_path, fake_gpu):
    return build_golden_model_dir(tmp_path / 'model')


@contextlib.contextmanager
def started(model_dir, *words, **options):
    command = [sys.executable, '-m', 'cigocc_ros.commands.main', 'build-engine']
    command += ['--model', str(model_dir), *words]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=os.environ, **options
    ) as child:
        yield child
        child.kill()


def test_it_builds_once_and_says_what(model_dir):
    with started(model_dir) as child:
        out, err = child.communicate(timeout=WAIT_S)
    assert child.returncode == 0, err
    assert 'built in' in out and 'tensorrt 10.13.2, GPU Fake GPU' in out
    assert len(engine_files(model_dir)) == 2
    with started(model_dir) as child:
        out, _ = child.communicate(timeout=WAIT_S)
    assert 'is up to date' in out


def test_a_refusal_is_one_line_and_2(model_dir, monkeypatch):
    monkeypatch.setenv('FAKE_TENSORRT_FAIL', 'memory')
    with started(model_dir) as child:
        _, err = child.communicate(timeout=WAIT_S)
    assert child.returncode == 2
    (line,) = [line for line in err.splitlines() if line.startswith('cigocc build-engine:')]
    assert 'lower workspace_mb' in line and 'Traceback' not in err


@pytest.mark.parametrize('how', ['sigint', 'sigterm', 'stdin'])
def test_it_is_cancelled(model_dir, monkeypatch, how):
    monkeypatch.setenv('FAKE_TENSORRT_STEP_S', '0.4')
    with started(model_dir, '--progress', 'json') as child:
        assert 'progress' in json.loads(child.stdout.readline())
        if how == 'stdin':
            child.stdin.close()
            child.stdin = None
        else:
            child.send_signal(signal.SIGINT if how == 'sigint' else signal.SIGTERM)
        _, err = child.communicate(timeout=WAIT_S)
    assert child.returncode == 130 and 'cancelled, nothing was written' in err
    assert not engine_files(model_dir)


def test_the_node_builds_what_is_missing_and_hears_of_it(model_dir, monkeypatch, caplog):
    monkeypatch.setenv('FAKE_TENSORRT_STEP_S', '0.25')
    caplog.set_level('INFO')
    told = []

    class Listening(Loading):
        def tell(self, message):
            told.append(message)
            super().tell(message)

    engine = create_engine('tensorrt', model_dir, load_manifest(model_dir), loading=Listening())
    engine.close()
    assert any(message.startswith('building the TensorRT engine: ') for message in told)
    assert told[-1] == ''
    assert f'run `cigocc build-engine --model {model_dir}`; doing that now' in caplog.text
    assert len(engine_files(model_dir)) == 2


def test_an_engine_of_another_jetson_is_stale(model_dir, monkeypatch, caplog):
    """An image that was copied from an AGX Orin to an Orin Nano; both GPUs are called "Orin"."""
    import fake_cuda

    monkeypatch.setenv('FAKE_GPUS', fake_cuda.AGX_ORIN)
    build(model_dir)
    monkeypatch.setenv('FAKE_GPUS', fake_cuda.ORIN_NANO)
    manifest, refuse = load_manifest(model_dir), TensorRtOptions(build_missing=False)
    said = 'stale, multiprocessors: found 16, expected 8; .*memory gib: found 62, expected 8: run'
    with pytest.raises(EngineError, match=f'{said} `cigocc build-engine'):
        create_engine('tensorrt', model_dir, manifest, tensorrt=refuse)
    create_engine('tensorrt', model_dir, manifest).close()
    assert 'stale, multiprocessors: found 16, expected 8' in caplog.text
    create_engine('tensorrt', model_dir, manifest, tensorrt=refuse).close()


@pytest.mark.parametrize(
    ('fail', 'said'),
    [('parse', 'ended with 2 and said: .*NonZero'), ('crash', r'ended with -6 and said')],
)
def test_a_builder_that_fails_does_not_take_the_caller_along(model_dir, monkeypatch, fail, said):
    monkeypatch.setenv('FAKE_TENSORRT_FAIL', fail)
    with pytest.raises(EngineError, match=said):
        build_in_process(model_dir, TensorRtOptions(), Loading())
    assert not engine_files(model_dir)


def test_cancelling_ends_the_builder_process(model_dir, monkeypatch):
    monkeypatch.setenv('FAKE_TENSORRT_STEP_S', '0.3')

    class CancelledAtOnce(Loading):
        def tell(self, message):
            if message:
                self.cancel()

    with pytest.raises(LoadingCancelled):
        build_in_process(model_dir, TensorRtOptions(), CancelledAtOnce())
    assert not engine_files(model_dir)


def test_a_builder_that_does_not_listen_is_killed(model_dir, monkeypatch):
    from cigocc_ros.runtime.tensorrt import builder_process

    monkeypatch.setenv('FAKE_TENSORRT_STEP_S', '60')
    monkeypatch.setattr(builder_process, 'STOPS_WITHIN_S', 0.2)

    class CancelledAtOnce(Loading):
        def tell(self, message):
            if message:
                self.cancel()

    began = time.monotonic()
    with pytest.raises(LoadingCancelled):
        build_in_process(model_dir, TensorRtOptions(), CancelledAtOnce())
    assert time.monotonic() - began < WAIT_S and not engine_files(model_dir)


def test_the_command_in_messages_repeats_the_options(model_dir):
    options = TensorRtOptions(engine_dir='/engines of mine', workspace_mb=512)
    assert build_command(options, model_dir) == (
        f"cigocc build-engine --model {model_dir} --engine-dir '/engines of mine' "
        '--workspace-mb 512'
    )
