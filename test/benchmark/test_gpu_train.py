"""The script for a GPU host trains from shards, ends in time and brings small weights home."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import fixtures_boxes
import pytest

from benchmark.gpu import train as script
from cigocc_ros.core.config import load_model_config
from cigocc_ros.model.build import load_checkpoint, read_checkpoint_record
from cigocc_ros.training.cache import cache_key
from cigocc_ros.training.shards import write_shard

REPOSITORY = Path(script.__file__).resolve().parents[2]
SMALL = ['--threads', '1', '--set', 'batch_size=2', '--set', 'validate_every=5']
SMALL += ['--set', 'log_every=1', '--set', 'augment.prior_stereo=1', '--precision', 'fp32']


@pytest.fixture(scope='module')
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tiny = load_model_config('tiny')
    folder = tmp_path_factory.mktemp('shards')
    named = [(f'00/{i:06d}', fixtures_boxes.prepared_arrays(tiny, i)) for i in range(3)]
    write_shard(folder / 'a.shard', cache_key(tiny), named)
    return folder


def words(shards: Path, tmp_path: Path, minutes: float) -> list[str]:
    given = [
        '--data',
        str(shards),
        '--out',
        str(tmp_path / 'out'),
        '--work',
        str(tmp_path / 'work'),
    ]
    given += ['--device', 'cpu', '--model', 'tiny', '--backbone', 'random', '--no-list']
    return [*given, '--minutes', str(minutes), '--', *SMALL]


def brought_home(out: Path) -> dict[str, int]:
    return {
        str(path.relative_to(out)): path.stat().st_size
        for path in out.rglob('*')
        if path.is_file()
    }


HOME = {
    'log.jsonl',
    'run.json',
    'train.log',
    'weights/model-00001-of-00001.safetensors',
    'weights/model_config.json',
}


def test_a_short_run_ends_in_time_with_its_weights(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(script, 'START_S', 25.0)
    monkeypatch.setattr(script, 'END_S', 15.0)
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    started_s = time.monotonic()
    assert script.main(words(shards, tmp_path, 45 / 60)) == 0, log_of(tmp_path)
    assert time.monotonic() - started_s < 60
    out = tmp_path / 'out'
    assert set(brought_home(out)) == HOME
    record = read_checkpoint_record(out / 'weights')
    assert record['weights_precision'] == 'fp16' and record['train']['resident']
    steps = [json.loads(line) for line in (out / 'log.jsonl').read_text().splitlines()]
    assert record['step'] == steps[-1]['step'] > 0
    assert load_checkpoint(out / 'weights').config.name == 'tiny'
    assert not (tmp_path / 'work/run/state.safetensors').exists()
    assert 'leaves some behind' not in caplog.text


def log_of(tmp_path: Path) -> str:
    return (tmp_path / 'out/train.log').read_text()


@pytest.fixture
def started(shards: Path, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The script in a process of its own, in its first steps."""
    process = subprocess.Popen(
        [sys.executable, '-m', 'benchmark.gpu.train', *words(shards, tmp_path, 20)],
        cwd=REPOSITORY,
        env={**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''},
        start_new_session=True,
    )
    until = time.monotonic() + 240
    while not (tmp_path / 'work/run/log.jsonl').is_file():
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.2)
    yield process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_a_host_that_ends_it_early_gets_the_last_step(
    started: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    started.terminate()
    assert started.wait(120) == 128 + signal.SIGTERM
    out = tmp_path / 'out'
    assert set(brought_home(out)) == HOME
    steps = [json.loads(line) for line in (out / 'log.jsonl').read_text().splitlines()]
    assert read_checkpoint_record(out / 'weights')['step'] == steps[-1]['step']
    assert 'stopped by SIGTERM' in log_of(tmp_path)


def test_too_little_time_is_told(
    shards: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert script.main(words(shards, tmp_path, 0.5)) == 2
    assert 'too few to train' in caplog.text


def test_the_list_comes_first_and_costs_only_itself(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run: list[list[str]] = []

    def failed(command: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        run.append(command)
        return subprocess.CompletedProcess(command, 3)

    monkeypatch.setattr(subprocess, 'run', failed)
    monkeypatch.setattr(script, 'train', lambda *_: 0)
    given = [word for word in words(shards, tmp_path, 9) if word != '--no-list']
    assert script.main(given) == 0
    (command,) = run
    assert command[1:4] == ['-m', 'benchmark.gpu', '--quick']
    assert f'--out={tmp_path / "out" / "gpu.json"}' in command
    assert 'ended with status 3' in caplog.text


def test_what_a_host_does_not_give_back_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / 'large').write_bytes(bytes(17 * 2**20))
    script.report(tmp_path)
    assert "leaves some behind: 1 files, larger: ['large']" in caplog.text
