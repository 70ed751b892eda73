"""Two processes train as one with the same batches."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from fixtures_trainer import CONFIG, logged, trainer_for

from cigocc_ros.core.config import ModelConfig
from cigocc_ros.core.errors import DataFileError
from cigocc_ros.model.build import load_checkpoint
from cigocc_ros.training.cache import FrameRef
from cigocc_ros.training.config import TrainConfig
from cigocc_ros.training.loop import LATEST
from cigocc_ros.training.schedule import plan_stages

# Batch statistics are those of one process, dropout is drawn in each: neither takes part here.
SHARED = dataclasses.replace(
    CONFIG, steps=4, batch_size=4, micro_batch_size=1, freeze_norm_share=0.0
)
LONGER = dataclasses.replace(SHARED, steps=6)
KEEP = ('stage', 'step', 'loss', 'grad_norm', 'stage1_ce', 'ssc', 'iou', 'miou')


def run(
    devices: int,
    frames: list[FrameRef],
    model: ModelConfig,
    out: Path,
    config: TrainConfig = SHARED,
    resume: bool = False,
) -> None:
    torch.set_num_threads(1)
    trainer = trainer_for(frames, model, out / str(devices), config, devices)
    measured = trainer.run(plan_stages('both', config), resume=resume)
    assert {one['num_processes'] for one in measured} == {devices}


@pytest.fixture
def steady(tiny: ModelConfig) -> ModelConfig:
    return dataclasses.replace(tiny, dropout=0.0)


@pytest.mark.slow
@pytest.mark.timeout(900)  # six processes import torch, on whatever the machine has
def test_two_processes_equal_one(
    frames: list[FrameRef], steady: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    for devices in (1, 2):
        run(devices, frames, steady, tmp_path)
        run(devices, frames, steady, tmp_path, LONGER, resume=True)
    for key in ('loss', 'iou'):
        one, two = (logged(tmp_path / str(devices), key) for devices in (1, 2))
        assert [entry['step'] for entry in two] == [entry['step'] for entry in one]
        for expected, found in zip(one, two, strict=True):
            values = {name: expected[name] for name in KEEP if name in expected}
            assert {name: found[name] for name in values} == pytest.approx(values, rel=1e-3)
    start = trainer_for(frames, steady, tmp_path / 'start', SHARED).model.state_dict()
    one, two = (load_checkpoint(tmp_path / n / LATEST).state_dict() for n in ('1', '2'))
    moved = {name: (one[name] - before).float().norm() for name, before in start.items()}
    apart = {name: (one[name] - value).float().norm() for name, value in two.items()}
    # Adam turns the rounding of a gradient near zero into a step of its own: a few weights differ.
    assert all(apart[name] <= 0.2 * moved[name] + 1e-5 for name in start)
    assert torch.stack([*apart.values()]).norm() <= 0.02 * torch.stack([*moved.values()]).norm()
    with pytest.raises(DataFileError, match='resume with the same --devices'):
        trainer = trainer_for(frames, steady, tmp_path / '2', SHARED)
        trainer.run(plan_stages('both', SHARED), resume=True)
