"""The loop learns, resumes exactly, and trains what its stage says."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures_trainer import CONFIG, PLAIN, interrupted_at, logged, trainer_for
from torch._dynamo import OptimizedModule

from cigocc_ros.core.config import ModelConfig
from cigocc_ros.core.errors import ConfigError, DataFileError
from cigocc_ros.core.typed_yaml import to_mapping
from cigocc_ros.evaluation.metrics import SscMetrics
from cigocc_ros.model.build import build_model, load_checkpoint, read_checkpoint_record
from cigocc_ros.training.augmentation import Sample
from cigocc_ros.training.cache import FrameRef, load_frame
from cigocc_ros.training.config import TrainConfig
from cigocc_ros.training.loop import BEST, BEST_STAGE_ONE, LATEST, Trainer
from cigocc_ros.training.losses import total_loss
from cigocc_ros.training.objectives import model_inputs, set_trainable, stage_terms
from cigocc_ros.training.resume import STATE_FILE
from cigocc_ros.training.run_folder import LOG_FILE
from cigocc_ros.training.scene_dataset import SceneDataset, collate
from cigocc_ros.training.schedule import Horizon, WeightAverage, plan_stages, rate_factor
from cigocc_ros.training.validation import validate


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def test_logged_total_is_the_sum_of_the_logged_terms(
    frames: list[FrameRef], tiny: ModelConfig, tmp_path: Path
) -> None:
    trainer_for(frames, tiny, tmp_path).run(plan_stages('joint', CONFIG))
    weights = to_mapping(CONFIG.losses)
    for entry in logged(tmp_path):
        terms = {name: value for name, value in entry.items() if name in weights}
        assert len(terms) == 7
        expected = sum(weights[name] * value for name, value in terms.items())
        assert entry['loss'] == pytest.approx(expected, rel=1e-5)


def test_logged_total_is_the_tensor_that_is_differentiated(
    frames: list[FrameRef], tiny: ModelConfig, tmp_path: Path, sample: Sample
) -> None:
    trainer = trainer_for(frames, tiny, tmp_path)
    batch = collate([sample])
    parameters = set_trainable(trainer.model, 'joint')
    torch.manual_seed(1)
    terms = stage_terms(trainer.model, batch, 'joint')
    total_loss(terms, to_mapping(CONFIG.losses)).backward()
    expected = [parameter.grad.clone() for parameter in parameters if parameter.grad is not None]
    trainer.model.load_state_dict(build_like(trainer, tiny))
    torch.manual_seed(1)
    objective, optimizer = trainer.set_up('joint', torch.optim.SGD(parameters, lr=0.0))
    found_terms, total, norm = trainer.step(iter([batch]), objective, optimizer, rate=0.0)
    assert total.item() == pytest.approx(
        sum(t.item() for t in terms.values()) - 0.9 * terms['stage1_depth'].item()
    )
    squares = sum((gradient**2).sum() for gradient in expected)
    assert norm == pytest.approx(squares.sqrt().item(), rel=1e-4)


def build_like(trainer: Trainer, config: ModelConfig) -> dict:
    torch.manual_seed(0)
    return build_model(config).state_dict()


@pytest.mark.parametrize('stage', ['1', '2', 'joint'])
def test_two_steps_lower_the_loss(
    stage: str, frames: list[FrameRef], tiny: ModelConfig, tmp_path: Path, sample: Sample
) -> None:
    trainer = trainer_for(frames, tiny, tmp_path)
    parameters = set_trainable(trainer.model, stage)
    objective, optimizer = trainer.set_up(stage, torch.optim.AdamW(parameters))
    batches = itertools.repeat(collate([sample]))
    totals = [trainer.step(batches, objective, optimizer, 1e-3).total.item() for _ in range(3)]
    assert totals[2] < totals[0]


@pytest.mark.slow
def test_compiled_network_learns_the_same(
    frames: list[FrameRef],
    tiny: ModelConfig,
    tmp_path: Path,
    sample: Sample,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Traced whole, without the minutes of generating code."""
    monkeypatch.setattr(
        torch, 'compile', functools.partial(torch.compile, backend='eager', fullgraph=True)
    )
    totals = []
    for compiled in (False, True):
        config = dataclasses.replace(CONFIG, compile=compiled)
        trainer = trainer_for(frames, dataclasses.replace(tiny, dropout=0.0), tmp_path, config)
        parameters = set_trainable(trainer.model, 'joint')
        objective, optimizer = trainer.set_up('joint', torch.optim.SGD(parameters))
        assert isinstance(objective._forward_module, OptimizedModule) == compiled
        batches = itertools.repeat(collate([sample]))
        steps = [trainer.step(batches, objective, optimizer, 1e-3) for _ in range(2)]
        totals.append([step.total.item() for step in steps])
    assert totals[1] == pytest.approx(totals[0], rel=1e-4)


def test_missing_validation_prior_is_told_before_training(
    frames: list[FrameRef], tiny: ModelConfig, tmp_path: Path
) -> None:
    arrays = load_frame(frames[0])
    del arrays['stereo']
    mono = dataclasses.replace(frames[0], cached=tmp_path / 'mono.npz')
    np.savez(mono.cached, **arrays)
    trainer = trainer_for([mono], tiny, tmp_path / 'run')
    with pytest.raises(DataFileError, match='no stereo prior.*validation_priors'):
        trainer.run(plan_stages('joint', CONFIG))
    assert not (tmp_path / 'run' / LOG_FILE).exists()


def test_stages_train_their_own_parameters(tiny: ModelConfig) -> None:
    model = build_model(tiny)
    one, two, joint = (
        {id(p) for p in set_trainable(model, stage)} for stage in ('1', '2', 'joint')
    )
    assert one and two and not one & two
    assert one | two == joint == {id(p) for p in model.parameters()}


def test_stage_two_leaves_stage_one_bit_identical(
    frames: list[FrameRef], tiny: ModelConfig, tmp_path: Path
) -> None:
    trainer = trainer_for(frames, tiny, tmp_path)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.run(plan_stages('2', CONFIG))
    after = trainer.model.state_dict()
    changed = {name.partition('.')[0] for name in after if not after[name].equal(before[name])}
    assert changed == {'extractor', 'cignet', 'head'}


def test_every_parameter_gets_a_gradient_in_joint_training(
    tiny: ModelConfig, sample: Sample
) -> None:
    model = build_model(tiny)
    set_trainable(model, 'joint')
    total_loss(
        stage_terms(model, collate([sample]), 'joint'), to_mapping(CONFIG.losses)
    ).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert without == []


@pytest.mark.parametrize(
    'change',
    [{}, {'batch_size': 4, 'micro_batch_size': 2}, {'ema_decay': None, 'precision': 'bf16'}],
    ids=['plain', 'accumulated', 'bf16'],
)
def test_resumed_run_equals_an_uninterrupted_one(
    change: dict, frames: list[FrameRef], tiny: ModelConfig, tmp_path: Path
) -> None:
    """The losses after the interruption are the same to the last bit."""
    whole, part = tmp_path / 'whole', tmp_path / 'part'
    config = dataclasses.replace(CONFIG, **change)
    plans = plan_stages('both', config)
    trainer_for(frames, tiny, whole, config).run(plans)
    with pytest.raises(KeyboardInterrupt):
        interrupted_at(trainer_for(frames, tiny, part, config), 5).run(plans)
    resumed = trainer_for(frames, tiny, part, config)
    torch.manual_seed(99)  # the state brings its own
    resumed.run(plans, resume=True)
    expected, found = ([e | {'time_s': 0} for e in logged(path)] for path in (whole, part))
    assert found[-2:] == expected[-2:]
    one, other = (load_checkpoint(path / LATEST).state_dict() for path in (whole, part))
    assert all(one[name].equal(other[name]) for name in one)


def test_a_run_killed_in_its_first_validation_goes_on(
    frames: list[FrameRef], tiny: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, part = tmp_path / 'whole', tmp_path / 'part'
    plans = plan_stages('joint', CONFIG)
    trainer_for(frames, tiny, whole).run(plans)
    with monkeypatch.context() as patch:
        patch.setattr('cigocc_ros.training.loop.score', killed)
        with pytest.raises(KeyboardInterrupt):
            trainer_for(frames, tiny, part).run(plans)
    assert load_checkpoint(part / LATEST) is not None
    trainer_for(frames, tiny, part).run(plans, resume=True)
    one, other = (load_checkpoint(path / LATEST).state_dict() for path in (whole, part))
    assert all(one[name].equal(other[name]) for name in one)


def killed(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_stage_starts_from_the_best_weights_of_the_one_before(
    frames: list[FrameRef], tiny: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stage 1 gets worse after its first validation: stage 2 must not inherit that."""
    scores = iter([0.9, 0.1, 0.2])

    def scored(model: object, dataset: SceneDataset, frames: int, stage: str, *more: object):
        found = validate(model, dataset, 1, stage, *more)
        return dataclasses.replace(found, iou=next(scores)) if stage == '1' else found

    monkeypatch.setattr('cigocc_ros.training.loop.score', scored)
    config = dataclasses.replace(
        CONFIG, stage1_share=0.5, validate_every=1, validation_priors=('stereo',)
    )
    begins: list[dict] = []
    trainer = trainer_for(frames, tiny, tmp_path, config)
    inner = trainer.set_up

    def remembered(stage, optimizer):
        begins.append({name: v.clone() for name, v in trainer.model.state_dict().items()})
        return inner(stage, optimizer)

    trainer.set_up = remembered
    trainer.run(plan_stages('both', config))
    best = load_checkpoint(tmp_path / BEST_STAGE_ONE).state_dict()
    assert read_checkpoint_record(tmp_path / BEST_STAGE_ONE)['step'] == 1
    assert all(begins[1][name].equal(best[name]) for name in best)
    assert read_checkpoint_record(tmp_path / BEST)['stage'] == 'joint'


def test_weights_of_every_validation_may_be_kept(
    frames: list[FrameRef], tiny: ModelConfig, tmp_path: Path
) -> None:
    for keeps in (False, True):
        config = dataclasses.replace(
            CONFIG, validate_every=1, validation_priors=('stereo',), keep_validated=keeps
        )
        out = tmp_path / str(keeps)
        trainer_for(frames, tiny, out, config).run(plan_stages('joint', config))
        kept = sorted(path for path in out.glob('joint-*'))
        steps = [read_checkpoint_record(path)['step'] for path in kept]
        assert steps == (list(range(1, CONFIG.steps + 1)) if keeps else [])
    assert [path.name for path in kept] == [f'joint-{step:06d}' for step in steps]
    last, latest = (load_checkpoint(path).state_dict() for path in (kept[-1], out / LATEST))
    first = load_checkpoint(kept[0]).state_dict()
    assert all(value.equal(latest[name]) for name, value in last.items())
    assert not all(value.equal(first[name]) for name, value in last.items())
    assert 'stereo' in read_checkpoint_record(kept[0])['scores']


def test_without_validation_a_stage_starts_from_the_average(
    frames: list[FrameRef], tiny: ModelConfig, tmp_path: Path
) -> None:
    trainer = trainer_for(frames, tiny, tmp_path, dataclasses.replace(CONFIG, ema_decay=0.9))
    trainer.validation = []
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    average = WeightAverage(trainer.model, 0.9)
    with torch.no_grad():
        next(trainer.model.parameters()).add_(1.0)  # the raw weights went elsewhere
    trainer._carry_on(average, plan_stages('1', CONFIG)[0])
    assert all(value.equal(before[name]) for name, value in trainer.model.state_dict().items())
    assert average.updates == 0


def test_the_backbone_may_learn_slower(
    frames: list[FrameRef], tiny: ModelConfig, tmp_path: Path, sample: Sample
) -> None:
    config = dataclasses.replace(CONFIG, backbone_rate=0.0, weight_decay=0.0, ema_decay=None)
    trainer = trainer_for(frames, tiny, tmp_path, config)
    parameters = set_trainable(trainer.model, 'joint')
    optimizer = trainer._optimizer(parameters)
    held = [p for group in optimizer.param_groups for p in group['params']]
    assert sorted(map(id, held)) == sorted(map(id, parameters))
    before = [p.clone() for p in trainer.model.backbone.parameters()]
    others = [p.clone() for p in trainer.model.unet.parameters()]
    objective, wrapped = trainer.set_up('joint', optimizer)
    trainer.step(itertools.repeat(collate([sample])), objective, wrapped, 1e-2)
    assert all(
        a.equal(b) for a, b in zip(before, trainer.model.backbone.parameters(), strict=True)
    )
    assert not all(
        a.equal(b) for a, b in zip(others, trainer.model.unet.parameters(), strict=True)
    )


def test_a_loss_that_nothing_teaches_is_said_once(
    frames: list[FrameRef],
    tiny: ModelConfig,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Without point labels the masks have no valid cell: their losses are exactly 0."""
    arrays = load_frame(frames[0])
    arrays['mask_valid'] = np.zeros_like(arrays['mask_valid'])
    silent = dataclasses.replace(frames[0], cached=tmp_path / 'silent.npz')
    np.savez(silent.cached, **arrays)
    trainer_for([silent], tiny, tmp_path / 'run').run(plan_stages('joint', CONFIG))
    said = [record.getMessage() for record in caplog.records if 'exactly 0' in record.message]
    assert len(said) == 2
    assert all('data_odometry_labels.zip' in text for text in said)
    assert {text.split()[2] for text in said} == {'masks', 'stage1_masks'}


def test_validation_counts_as_the_official_metrics_do(
    frames: list[FrameRef], tiny: ModelConfig, tmp_path: Path
) -> None:
    arrays = load_frame(frames[0])
    arrays['labels'][:9], arrays['query_labels'][3] = 255, 255
    partly = dataclasses.replace(frames[0], cached=tmp_path / 'partly.npz')
    np.savez(partly.cached, **arrays)
    model = build_model(tiny).eval()
    dataset = SceneDataset([partly, *frames[1:]], tiny)
    for stage in ('1', 'joint'):
        reference = SscMetrics()
        for sample in (dataset[index] for index in range(len(dataset))):
            inputs = model_inputs(collate([sample]))
            with torch.no_grad():
                one = stage == '1'
                logits = model.stage_one(*inputs).logits if one else model(*inputs).logits
            target = sample.query_labels if one else sample.labels
            reference.update(logits.argmax(1)[0].numpy(), target)
        expected, found = reference.compute(), validate(model, dataset, 0, stage)
        np.testing.assert_array_equal(found.iou_per_class, expected.iou_per_class)
        assert (found.iou, found.num_voxels) == (expected.iou, expected.num_voxels)


def test_a_validation_leaves_every_part_in_its_mode(
    frames: list[FrameRef], tiny: ModelConfig
) -> None:
    model = build_model(tiny)
    set_trainable(model, '2')
    before = [module.training for module in model.modules()]
    assert len(set(before)) == 2
    validate(model, SceneDataset(frames[:1], tiny))
    assert [module.training for module in model.modules()] == before


def test_state_of_another_model_is_refused(
    frames: list[FrameRef], tiny: ModelConfig, tmp_path: Path
) -> None:
    trainer_for(frames, tiny, tmp_path).run(plan_stages('joint', CONFIG))
    with pytest.raises(DataFileError, match='resume with the same --stage'):
        trainer_for(frames, tiny, tmp_path).run(plan_stages('2', CONFIG), resume=True)
    (tmp_path / STATE_FILE).write_bytes(b'cut')
    with pytest.raises(DataFileError, match='not the state of a training run'):
        trainer_for(frames, tiny, tmp_path).run(plan_stages('joint', CONFIG), resume=True)


def test_run_leaves_loadable_weights(
    frames: list[FrameRef], tiny: ModelConfig, tmp_path: Path
) -> None:
    trainer_for(frames, tiny, tmp_path).run(plan_stages('both', CONFIG))
    for folder in (LATEST, BEST):
        model = load_checkpoint(tmp_path / folder)
        scores = validate(model, SceneDataset(frames, tiny))
        assert scores.num_voxels == 3 * 32 * 32 * 8
    assert not [*tmp_path.rglob('*.part'), *tmp_path.rglob('.*')]


def test_one_sample_can_be_learnt_by_heart(
    frames: list[FrameRef], tiny: ModelConfig, tmp_path: Path
) -> None:
    config = TrainConfig(
        steps=150, learning_rate=8e-3, ema_decay=0.9, validate_every=1000, augment=PLAIN
    )
    trainer_for(frames[:1], tiny, tmp_path, config).run(plan_stages('joint', config))
    dataset = SceneDataset(frames[:1], tiny, prior='depth')
    scores = validate(load_checkpoint(tmp_path / LATEST), dataset)
    present = [i for i in range(1, 20) if (dataset[0].labels == i).any()]
    assert scores.iou > 0.85
    assert scores.iou_per_class[present].mean() > 0.75


def test_stage_one_is_scored_on_the_query_grid(frames: list[FrameRef], tiny: ModelConfig) -> None:
    scores = validate(build_model(tiny), SceneDataset(frames, tiny), 2, stage='1')
    assert scores.num_voxels == 2 * 16 * 16 * 4


def test_time_budget_ends_the_run(
    frames: list[FrameRef], tiny: ModelConfig, tmp_path: Path
) -> None:
    plans = plan_stages('both', CONFIG, budget_s=3.0)
    assert [plan.horizon.seconds for plan in plans] == pytest.approx([0.9, 2.1])
    trainer_for(frames, tiny, tmp_path).run(plans)
    last = logged(tmp_path)[-1]
    assert last['stage'] == 'joint' and last['time_s'] >= 2.1
    assert last['lr'] < CONFIG.learning_rate * rate_factor(99, 0.3, 2, 0.01)
    with pytest.raises(ConfigError, match='time budget'):
        plan_stages('both', CONFIG, budget_s=0.0)


def test_rate_warms_up_then_falls_to_its_end() -> None:
    factors = [rate_factor(step, step / 100, 10, 0.01) for step in range(101)]
    assert factors[0] == pytest.approx(1 / 11)
    assert factors[:10] == sorted(factors[:10]) and factors[11:] == sorted(factors[11:])[::-1]
    assert factors[100] == pytest.approx(0.01)
    assert Horizon(10).progress(5, 0.0) == 0.5
    assert Horizon(10, seconds=4.0).progress(9, 1.0) == 0.25


def test_average_follows_weights_and_statistics(tiny: ModelConfig) -> None:
    model = build_model(tiny)
    average = WeightAverage(model, decay=0.5)
    with torch.no_grad():
        for value in model.state_dict().values():
            value.add_(1)
    before = {name: value.clone() for name, value in average.model.state_dict().items()}
    for _ in range(60):
        average.update(model)
    for name, value in average.model.state_dict().items():
        wanted = model.state_dict()[name]
        torch.testing.assert_close(value, wanted, rtol=0, atol=1e-4)
        assert not value.equal(before[name])
