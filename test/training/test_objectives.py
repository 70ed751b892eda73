"""Distillation takes part where it is configured, and says what is missing."""

from __future__ import annotations

import pytest
import torch

from cigocc_ros.core.config import ModelConfig
from cigocc_ros.core.errors import ConfigError, DataFileError
from cigocc_ros.model.build import build_model
from cigocc_ros.training.augmentation import Sample
from cigocc_ros.training.config import Stage
from cigocc_ros.training.losses import total_loss
from cigocc_ros.training.objectives import StageObjective, set_trainable, stage_terms
from cigocc_ros.training.scene_dataset import Batch, collate


@pytest.fixture
def batch(sample: Sample) -> Batch:
    torch.manual_seed(0)
    return collate([sample])


@pytest.mark.parametrize(('stage', 'has_term'), [('1', True), ('2', False), ('joint', True)])
def test_term_is_there_where_the_stage_trains_the_branch(
    stage: Stage, has_term: bool, tiny: ModelConfig, batch: Batch
) -> None:
    model = build_model(tiny)
    assert ('distill' in StageObjective(model, stage, distill=True)(batch)) == has_term
    assert 'distill' not in StageObjective(model, stage)(batch)


def test_loss_is_the_error_where_the_teacher_knows(tiny: ModelConfig, batch: Batch) -> None:
    model = build_model(tiny).eval()
    features = batch.teacher_features
    assert features is not None and features.isnan().any()
    terms = stage_terms(model, batch, 'joint', distill=True)
    inputs = (batch.image, batch.depth_prior, batch.pixel_from_velo, batch.velo_from_pixel)
    student = model(*inputs).semantic_features
    expected = (student - features).square().nanmean()
    assert terms['distill'].item() == pytest.approx(expected.item(), rel=1e-5)


def test_student_moves_towards_the_teacher(tiny: ModelConfig, batch: Batch) -> None:
    model = build_model(tiny)
    optimizer = torch.optim.Adam(set_trainable(model, '1'), lr=1e-2)
    losses = []
    for _ in range(4):
        term = stage_terms(model, batch, '1', distill=True)['distill']
        losses.append(term.item())
        optimizer.zero_grad()
        total_loss({'distill': term}, {'distill': 1.0}).backward()
        optimizer.step()
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert losses[-1] < losses[0]


def test_missing_features_are_an_error(tiny: ModelConfig, batch: Batch) -> None:
    without = batch._replace(teacher_features=None)
    with pytest.raises(DataFileError, match='cigocc teacher'):
        stage_terms(build_model(tiny), without, '1', distill=True)


def test_features_of_another_size_are_an_error(tiny: ModelConfig, batch: Batch) -> None:
    wider = batch._replace(teacher_features=torch.zeros(1, 99, 12, 40))
    with pytest.raises(ConfigError, match='semantic_channels'):
        stage_terms(build_model(tiny), wider, '1', distill=True)


def test_a_network_that_was_loaded_trains(tiny: ModelConfig) -> None:
    model = build_model(tiny).eval()  # as `load_checkpoint` gives it
    set_trainable(model, '2')
    assert model.training and model.head.training
    assert not model.backbone.training
    set_trainable(model, '1')
    assert model.training and model.backbone.training
    assert not model.head.training
