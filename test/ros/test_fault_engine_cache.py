"""The cache of engines: a full disk, two builders, and a builder that is killed."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('onnxruntime')

from fixtures_engine import build_golden_model_dir, engine_files
from fixtures_processes import (
    ENDS_WITHIN_S,
    REPOSITORY,
    occ_command,
    process,
    ros_environment,
    wait_for_line,
)
from fixtures_ros import Camera

BUILD = [sys.executable, '-m', 'cigocc_ros.commands.main', 'build-engine']


@pytest.fixture
def model_dir(tmp_path, fake_gpu):
    return build_golden_model_dir(tmp_path / 'model')


def started(output: Path, *words: str):
    return process([*BUILD, *words], output)


def test_a_full_disk_ends_the_node_with_what_to_do(model_dir, full_disk, tmp_path):
    """A real file system without room: nothing half written stays, and room mends it."""
    output, again = tmp_path / 'node.log', tmp_path / 'again.log'
    words = [*occ_command(model_dir), '-p', 'backend:=tensorrt']
    words += ['-p', f'tensorrt.engine_dir:={full_disk}']
    with process(words, output) as child:
        assert child.wait(ENDS_WITHIN_S) == 1
    said = output.read_text()
    assert 'No space left on device' in said and 'make room' in said and 'Traceback' not in said
    assert not engine_files(full_disk)
    (full_disk / 'other').unlink()
    with process(words, again) as child:
        wait_for_line(again, 'ready: model', child)
    assert len(engine_files(full_disk)) == 2


def test_a_file_that_may_not_grow(model_dir, tmp_path):
    """The same by RLIMIT_FSIZE, where mounting is forbidden: a write fails in the middle."""

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (256, 256))

    done = subprocess.run(
        [*BUILD, '--model', str(model_dir)],
        env=ros_environment(),
        capture_output=True,
        text=True,
        timeout=ENDS_WITHIN_S,
        preexec_fn=limit,
        cwd=REPOSITORY,
        check=False,
    )
    assert done.returncode == 2 and 'File too large' in done.stderr
    assert 'Traceback' not in done.stderr and not engine_files(model_dir)


def test_two_builders_at_once(model_dir, tmp_path, monkeypatch):
    """Processes this time: one builds, the other waits and takes what is there."""
    monkeypatch.setenv('FAKE_TENSORRT_STEP_S', '0.3')
    words = ['--model', str(model_dir)]
    outputs = [tmp_path / f'{name}.log' for name in ('one', 'two')]
    with started(outputs[0], *words) as one, started(outputs[1], *words) as two:
        assert [child.wait(ENDS_WITHIN_S) for child in (one, two)] == [0, 0]
    texts = [output.read_text() for output in outputs]
    assert sum('waiting for another builder' in text for text in texts) == 1
    assert sorted('built in' in text for text in texts) == [False, True]
    assert sorted('is up to date' in text for text in texts) == [False, True]
    assert len(engine_files(model_dir)) == 2


def test_a_builder_that_is_killed(graph, model_dir, tmp_path, monkeypatch):
    """Its lock goes with it, what it left is removed, and the node that waited builds."""
    monkeypatch.setenv('FAKE_TENSORRT_STEP_S', '5')
    first, output = tmp_path / 'first.log', tmp_path / 'node.log'
    with started(first, '--model', str(model_dir)) as builder:
        wait_for_line(first, 'building:', builder)
        monkeypatch.setenv('FAKE_TENSORRT_STEP_S', '0')
        with process([*occ_command(model_dir), '-p', 'backend:=tensorrt'], output) as node:
            wait_for_line(output, f'waiting for another builder, process {builder.pid}', node)
            os.kill(builder.pid, signal.SIGKILL)
            wait_for_line(output, 'ready: model', node)
            camera = Camera(graph)
            graph.until(camera.matched)
    assert len(engine_files(model_dir)) == 2
    assert not list(model_dir.glob('.*.engine.*'))  # half an engine
