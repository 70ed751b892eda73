"""What a run leaves behind: logs, curves, checkpoints that say how they were made."""

from __future__ import annotations

import dataclasses
import json
import sys
import types
from pathlib import Path

import pytest
import torch
from fixtures_trainer import CONFIG, logged, trainer_for
from safetensors import safe_open
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cigocc_ros.core.config import ModelConfig
from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.typed_yaml import from_mapping, to_mapping
from cigocc_ros.model.build import build_model, load_checkpoint, read_checkpoint_record
from cigocc_ros.training.cache import FrameRef
from cigocc_ros.training.config import TrainConfig
from cigocc_ros.training.loop import BEST, LATEST, Trainer
from cigocc_ros.training.meters import Throughput
from cigocc_ros.training.run_folder import (
    TENSORBOARD_FOLDER,
    RunLog,
    code_commit,
    write_record,
)
from cigocc_ros.training.schedule import WeightAverage, plan_stages

RUN = dataclasses.replace(CONFIG, steps=12, learning_rate=1e-2, validate_every=12, ema_decay=None)


@pytest.fixture(scope='module')
def trainer(
    frames: list[FrameRef], tiny: ModelConfig, tmp_path_factory: pytest.TempPathFactory
) -> Trainer:
    """A trainer that has run, in fp32 without averaging."""
    torch.set_num_threads(1)
    trainer = trainer_for(frames, tiny, tmp_path_factory.mktemp('run'), RUN)
    trainer.data = {'data': ['synth:0.5', 'real@00'], 'val': None}
    measured = trainer.run(plan_stages('joint', RUN))
    facts = {**trainer.facts(), 'data': ['synth:0.5', 'real:0.5'], 'stages': measured}
    write_record(trainer.out, facts)
    return trainer


def test_every_prior_is_validated_and_named(trainer: Trainer) -> None:
    entries = logged(trainer.out, 'iou')
    assert [entry['prior'] for entry in entries] == ['stereo', 'none']
    assert entries[0]['iou'] != entries[1]['iou']


def test_curves_are_what_was_logged(trainer: Trainer) -> None:
    curves = EventAccumulator(str(trainer.out / TENSORBOARD_FOLDER))
    curves.Reload()
    points = curves.Scalars('stage_joint/loss')
    entries = logged(trainer.out)
    assert [point.step for point in points] == [entry['step'] for entry in entries]
    assert [p.value for p in points] == pytest.approx([e['loss'] for e in entries], rel=1e-5)
    assert 'stage_joint/validation_none/iou_per_class/car' in curves.Tags()['scalars']


@pytest.mark.parametrize('folder', [LATEST, BEST])
def test_checkpoint_says_how_it_was_made(folder: str, trainer: Trainer) -> None:
    with safe_open(trainer.out / folder / 'model.safetensors', 'pt') as file:
        record = {name: json.loads(value) for name, value in file.metadata().items()}
    assert from_mapping(TrainConfig, record['train'], 'header') == RUN
    assert record['commit'] == code_commit()
    assert (record['stage'], record['step']) == ('joint', 12)
    assert list(record['scores']) == ['stereo', 'none']
    validated = logged(trainer.out, 'iou')
    assert record['scores']['none'] == {
        name: validated[1][name] for name in ('iou', 'miou', 'precision', 'recall')
    }
    assert (record['data'], record['val']) == (['synth:0.5', 'real@00'], None)
    assert read_checkpoint_record(trainer.out / folder) == record


def test_without_average_the_trained_weights_are_saved(trainer: Trainer) -> None:
    saved, trained = load_checkpoint(trainer.out / LATEST).state_dict(), trainer.model.state_dict()
    assert all(value.equal(trained[name]) for name, value in saved.items())


def test_average_without_decay_copies_when_asked(tiny: ModelConfig) -> None:
    model = build_model(tiny)
    average = WeightAverage(model, None)
    before = {name: value.clone() for name, value in average.model.state_dict().items()}
    with torch.no_grad():
        next(model.parameters()).add_(1)
    average.update(model)
    assert all(value.equal(before[name]) for name, value in average.model.state_dict().items())
    current = average.current(model).state_dict()
    assert all(value.equal(current[name]) for name, value in model.state_dict().items())


def test_record_has_data_settings_and_speed(trainer: Trainer) -> None:
    record = json.loads((trainer.out / 'run.json').read_text())
    assert record['data'] == ['synth:0.5', 'real:0.5']
    assert record['train'] == json.loads(json.dumps(to_mapping(RUN)))
    (stage,) = record['stages']
    assert stage['frames_per_s'] > 0 and 0.05 < stage['peak_memory_gib'] < 100
    assert (stage['stage'], stage['precision'], stage['compiled']) == ('joint', 'fp32', False)


def test_throughput_leaves_warm_up_and_pauses_out(monkeypatch) -> None:
    now_s = [100.0]
    monkeypatch.setattr('cigocc_ros.training.meters.time.perf_counter', lambda: now_s[0])
    throughput = Throughput(warm_up_steps=1)
    for seconds in (20.0, 2.0, 4.0):
        with throughput.step(frames=3):
            now_s[0] += seconds
        now_s[0] += 5.0  # validation
    assert (throughput.frames, throughput.seconds, throughput.frames_per_s) == (6, 6.0, 1.0)
    assert Throughput().frames_per_s is None


class FakeWandb(types.ModuleType):
    """Remembers what it is told; wandb itself is no dependency of the tests."""

    def __init__(self) -> None:
        super().__init__('wandb')
        self.started: dict[str, str] = {}
        self.logged: list[dict[str, float]] = []
        self.finished = 0

    def init(self, **settings: str) -> FakeWandb:
        self.started = settings
        return self

    def log(self, values: dict[str, float]) -> None:
        self.logged.append(values)

    def finish(self) -> None:
        self.finished += 1


def test_curves_go_to_weights_and_biases_where_asked(
    frames: list[FrameRef], tiny: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = FakeWandb()
    monkeypatch.setitem(sys.modules, 'wandb', wandb)
    config = dataclasses.replace(RUN, steps=2, validate_every=2, wandb_project='occupancy')
    trainer_for(frames, tiny, tmp_path / 'first', config).run(plan_stages('joint', config))
    assert (wandb.started['project'], wandb.started['name']) == ('occupancy', 'first')
    assert wandb.finished == 1
    losses = logged(tmp_path / 'first')
    found = [one['stage_joint/loss'] for one in wandb.logged if 'stage_joint/loss' in one]
    assert found == [entry['loss'] for entry in losses]
    assert any('stage_joint/validation_none/iou_per_class/car' in one for one in wandb.logged)


def test_weights_and_biases_must_be_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, 'wandb', None)
    with pytest.raises(ConfigError, match='pip install wandb'):
        RunLog(tmp_path, wandb_project='occupancy')
    RunLog(tmp_path, enabled=False, wandb_project='occupancy')  # the other processes keep still
