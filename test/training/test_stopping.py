"""A signal ends a run after the step in hand, with a checkpoint from which it goes on exactly."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fixtures_boxes
import pytest
import torch
from fixtures_trainer import CONFIG, logged, trainer_for

from cigocc_ros.core.config import ModelConfig
from cigocc_ros.model.build import load_checkpoint
from cigocc_ros.training.cache import FrameRef
from cigocc_ros.training.loop import LATEST, STOPPED_BY, Trainer
from cigocc_ros.training.resume import STATE_FILE, read_progress
from cigocc_ros.training.run_folder import LOG_FILE
from cigocc_ros.training.schedule import plan_stages
from cigocc_ros.training.stopping import SIGNALS, StopSignals
from cigocc_ros.training.validation import StoppedError, validate

LONG_RUN = ['--model', 'tiny', '--stage', '1', '--threads', '1', '--steps', '1000000']


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('kitti')
    fixtures_boxes.write_kitti_tree(root, seeds=(0,), size=(104, 320))
    return root


def heard_again() -> None:
    """Take SIGINT as a terminal's process does: shells let what runs behind them ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def started(root: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    """Start `cigocc train` in a process of its own and wait for its first steps."""
    words = ['train', '--data', str(root), '--out', str(out), *LONG_RUN, *more]
    process = subprocess.Popen(
        [sys.executable, '-m', 'cigocc_ros.commands.main', *words],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''},
        start_new_session=True,
        preexec_fn=heard_again,
    )
    until = time.monotonic() + 240
    while not (out / LOG_FILE).is_file():
        assert process.poll() is None and time.monotonic() < until, process.communicate()
        time.sleep(0.1)
    return process


@pytest.fixture
def ended() -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that a test leaves behind are ended with their children."""
    left: list[subprocess.Popen[str]] = []
    yield left
    for process in left:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize('number', SIGNALS)
def test_a_real_run_ends_with_its_last_step_saved(
    number: signal.Signals, root: Path, tmp_path: Path, ended: list[subprocess.Popen[str]]
) -> None:
    process = started(root, tmp_path, '--set', 'log_every=1')
    ended.append(process)
    process.send_signal(number)
    said, complained = process.communicate(timeout=120)
    last = logged(tmp_path)[-1]['step']
    assert process.returncode == 128 + number
    assert f'stopped by {number.name} after step {last} of stage 1' in complained
    assert complained.rstrip().endswith('go on with --resume') and f'weights: {tmp_path}' in said
    assert load_checkpoint(tmp_path / LATEST) is not None
    assert read_progress(tmp_path / STATE_FILE).step == last
    (stage,) = json.loads((tmp_path / 'run.json').read_text())['stages']
    assert (stage[STOPPED_BY], stage['step']) == (number.name, last)


@pytest.mark.slow
def test_all_processes_of_a_real_run_end_together(
    root: Path, tmp_path: Path, ended: list[subprocess.Popen[str]]
) -> None:
    """The first process alone is told; state and loader processes as they are set."""
    more = ['--devices', '2', '--accelerator', 'cpu', '--set', 'batch_size=2']
    more += ['--set', 'log_every=1', '--set', 'save_state=false', '--num-workers', '1']
    process = started(root, tmp_path, *more)
    ended.append(process)
    process.terminate()
    _, complained = process.communicate(timeout=240)
    assert process.returncode == 128 + signal.SIGTERM
    assert f'go on with --init {tmp_path / LATEST} (save_state is false)' in complained
    assert load_checkpoint(tmp_path / LATEST) is not None
    assert not (tmp_path / STATE_FILE).exists()


def stopping_at(trainer: Trainer, step: int) -> Trainer:
    """Let a trainer be asked to stop while it takes its step number `step`."""
    inner, count = trainer.step, 0

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        if count == step:
            signal.raise_signal(signal.SIGTERM)
        return inner(*args, **kwargs)

    trainer.step = counted  # type: ignore[method-assign]
    return trainer


@pytest.mark.parametrize('step', [1, 2, 3, 5], ids=['first', 'end of stage 1', 'next', 'later'])
def test_a_stopped_run_goes_on_as_if_it_had_not(
    step: int, frames: list[FrameRef], tiny: ModelConfig, tmp_path: Path
) -> None:
    """The losses after it are the same to the last bit, also at the end of a stage."""
    whole, part = tmp_path / 'whole', tmp_path / 'part'
    plans = plan_stages('both', CONFIG)
    trainer_for(frames, tiny, whole).run(plans)
    measured = stopping_at(trainer_for(frames, tiny, part), step).run(plans)
    assert measured[-1][STOPPED_BY] == 'SIGTERM'
    assert len(logged(part)) == step
    trainer_for(frames, tiny, part).run(plans, resume=True)
    expected, found = ([e | {'time_s': 0} for e in logged(path)] for path in (whole, part))
    assert found == expected
    one, other = (load_checkpoint(path / LATEST).state_dict() for path in (whole, part))
    assert all(one[name].equal(other[name]) for name in one)


def test_a_signal_calls_a_validation_off(
    frames: list[FrameRef], tiny: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def told(*args: Any) -> Any:
        asked.append(1)
        signal.raise_signal(signal.SIGTERM)
        return validate(*args)

    monkeypatch.setattr('cigocc_ros.training.loop.score', told)
    trainer = trainer_for(frames, tiny, tmp_path)
    (stage,) = trainer.run(plan_stages('joint', CONFIG))
    assert (stage[STOPPED_BY], stage['step'], len(asked)) == ('SIGTERM', 2, 1)
    assert not logged(tmp_path, 'iou')
    assert read_progress(tmp_path / STATE_FILE).step == 2
    model = trainer.model
    with pytest.raises(StoppedError):
        validate(model, trainer.validation[0], stopped=lambda: True)


def test_handlers_are_given_back_and_a_second_signal_ends_at_once() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with StopSignals() as signals:
        signal.raise_signal(signal.SIGINT)
        assert signals.received is signal.SIGINT
        signal.raise_signal(signal.SIGTERM)  # of the parent, for the same Ctrl-C
        signals._since -= 2.0
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_what_ignores_a_signal_goes_on_doing_so() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopSignals() as signals:
            signal.raise_signal(signal.SIGINT)
            assert signals.received is None
    finally:
        signal.signal(signal.SIGINT, before)


def test_without_a_state_the_weights_alone_are_written(
    frames: list[FrameRef], tiny: ModelConfig, tmp_path: Path
) -> None:
    config = dataclasses.replace(CONFIG, save_state=False, steps=2)
    trainer_for(frames, tiny, tmp_path, config).run(plan_stages('joint', config))
    assert load_checkpoint(tmp_path / LATEST) is not None
    assert not (tmp_path / STATE_FILE).exists()
