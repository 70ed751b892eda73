"""Activations that are computed again give the same losses, gradients and statistics."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import pytest
import torch
from fixtures_trainer import CONFIG, logged, trainer_for
from torch import Tensor, nn

from cigocc_ros.core.config import ModelConfig
from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.typed_yaml import to_mapping
from cigocc_ros.model.build import build_model
from cigocc_ros.training.augmentation import Sample
from cigocc_ros.training.cache import FrameRef
from cigocc_ros.training.losses import total_loss
from cigocc_ros.training.objectives import set_trainable, stage_terms
from cigocc_ros.training.recompute import recompute_activations
from cigocc_ros.training.scene_dataset import collate
from cigocc_ros.training.schedule import plan_stages

PARTS = ('unet', 'cignet', 'head')


def kept_bytes_and_gradients(model: nn.Module, sample: Sample) -> tuple[int, Tensor]:
    """Return how much a forward pass keeps for the backward one, and all gradients."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    torch.manual_seed(3)  # dropout
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        terms = stage_terms(model, collate([sample]), 'joint')
        size = sum(kept.values())
        total_loss(terms, to_mapping(CONFIG.losses)).backward()
    grads = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return size, torch.cat(grads)


def test_gradients_stay_and_less_is_kept(tiny: ModelConfig, sample: Sample) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    plain = build_model(dataclasses.replace(tiny, dropout=0.1))
    saving = copy.deepcopy(plain)
    recompute_activations(saving, PARTS)
    for model in (plain, saving):
        set_trainable(model, 'joint')
    kept, expected = kept_bytes_and_gradients(plain, sample)
    kept_less, found = kept_bytes_and_gradients(saving, sample)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)
    assert kept_less < 0.8 * kept
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(saving.state_dict()[name], value)


def test_batch_norms_count_a_batch_once() -> None:
    norm = nn.Sequential(nn.BatchNorm1d(3), nn.ReLU())
    plain, saving = nn.ModuleDict({'part': norm}), nn.ModuleDict({'part': copy.deepcopy(norm)})
    recompute_activations(saving, ['part'])
    batch = torch.randn(8, 3, requires_grad=True)
    for model in (plain, saving):
        model['part'](batch).square().sum().backward()
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(saving.state_dict()[name], value)
    assert saving['part'][0].momentum == 0.1


def test_a_part_that_is_not_there_is_named(tiny: ModelConfig) -> None:
    with pytest.raises(ConfigError, match="no part 'unett'; the network has .*'unet'"):
        recompute_activations(build_model(tiny), ['unett'])


def test_a_run_is_the_same_to_the_last_digits(
    frames: list[FrameRef], tiny: ModelConfig, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    found = []
    for parts in ((), PARTS):
        config = dataclasses.replace(CONFIG, recompute=parts)
        out = tmp_path / f'{len(parts)}'
        trainer_for(frames, tiny, out, config).run(plan_stages('both', config))
        found.append([entry['loss'] for entry in logged(out)])
    assert found[1] == pytest.approx(found[0], rel=1e-4)
