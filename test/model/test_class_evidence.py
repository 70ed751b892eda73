"""Lifted classes: what they add to the logits, and what they leave alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cigocc_ros.core.errors import ConfigError
from cigocc_ros.model.build import build_model
from cigocc_ros.model.class_evidence import (
    LOWEST_LOG_SHARE,
    ClassGate,
    ClassTrust,
    draw_say,
    lift_classes,
)
from cigocc_ros.model.geometry import VoxelProjector
from cigocc_ros.model.logits import occupied_logit


@pytest.fixture
def gated(tiny):
    return replace(tiny, class_evidence='gated')


@pytest.fixture
def geometry(tiny, make_inputs):
    pixel_from_velo = make_inputs(tiny)[2]
    return VoxelProjector(tiny.query_grid, tiny.image_size)(pixel_from_velo)


def test_voxels_take_the_classes_of_their_pixel(tiny, geometry):
    height, width = (size // 4 for size in tiny.image_size)
    logits = torch.zeros(1, 19, height, width)
    logits[:, 4, :, width // 2 :] = 30.0  # person on the right of the image, where y < 0
    shares = lift_classes(logits, geometry, tiny.image_size)
    seen = geometry.in_image[0]
    right = seen & (geometry.u_px[0] > 0.6 * tiny.image_size[1])
    left = seen & (geometry.u_px[0] < 0.4 * tiny.image_size[1])
    inner = (geometry.v_px[0] > 2) & (geometry.v_px[0] < tiny.image_size[0] - 3)
    inner &= (geometry.u_px[0] > 2) & (geometry.u_px[0] < tiny.image_size[1] - 3)
    assert right.sum() > 20
    assert left.sum() > 20
    torch.testing.assert_close(
        shares[0, 4][right & inner], torch.zeros(int((right & inner).sum()))
    )
    lost = shares[0, 5][right & inner]
    torch.testing.assert_close(lost, torch.full_like(lost, LOWEST_LOG_SHARE))
    even = torch.tensor(1 / 19).log()
    torch.testing.assert_close(shares[0, 4][left & inner], even.expand(int((left & inner).sum())))
    assert (shares[0, :, ~seen] == 0).all()


def test_a_gate_adds_nothing_to_empty_and_closes():
    gate, features = ClassGate(8), torch.randn(2, 8, 4, 4, 2)
    evidence = -torch.rand(2, 19, 4, 4, 2)
    added = gate(features, evidence)
    assert (added[:, 0] == 0).all()
    open_share = torch.sigmoid(torch.tensor(1.0))
    torch.testing.assert_close(added[:, 1:], open_share * evidence)
    gate.gate.bias.data.fill_(-50.0)
    assert (gate(features, evidence).abs() < 1e-6).all()


def test_both_classifiers_follow_the_segmentation(gated, make_inputs):
    torch.manual_seed(0)
    model, inputs = build_model(gated).eval(), make_inputs(gated)
    with torch.no_grad():
        model.semantic.masks[1].weight.zero_()
        model.semantic.masks[1].bias.fill_(-20.0)
        before = model(*inputs)
        model.semantic.masks[1].bias[12] = 20.0  # everything is building
        after = model(*inputs)
        seen = model.project(inputs[2]).in_image
    assert (before.stage1_logits - after.stage1_logits)[:, 0].abs().max() == 0
    classes = after.stage1_logits[:, 1:].argmax(1)[seen]
    assert (classes == 12).float().mean() > 0.9
    outside = (before.stage1_logits - after.stage1_logits).abs().amax(1)[~seen]
    assert outside.max() == 0
    share = (after.logits[:, 1:].argmax(1) == 12).float().mean()
    assert share > (before.logits[:, 1:].argmax(1) == 12).float().mean() + 0.2


def test_gates_learn(gated, make_inputs):
    model = build_model(gated)
    out = model(*make_inputs(gated))
    (out.logits.square().mean() + out.stage1_logits.square().mean()).backward()
    for gate in (model.stage1_gate, model.head.gate):
        assert gate.gate.weight.grad.abs().max() > 0


def test_needs_a_mask_per_class(tiny):
    with pytest.raises(ConfigError, match='class_evidence needs a mask channel per class'):
        replace(tiny, num_mask_channels=1, class_evidence='gated')


@pytest.fixture
def trusted(tiny):
    return replace(
        tiny,
        class_evidence='trusted',
        class_say=0.5,
        head_upsample='shape',
        stage1_residual=True,
        semantic_prior=True,
    )


def voxels_of(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return logits, features and evidence of some voxels."""
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 20, 4, 4, 2, generator=draw)
    features = torch.randn(2, 8, 4, 4, 2, generator=draw)
    return logits, features, torch.randn(2, 19, 4, 4, 2, generator=draw).log_softmax(1)


@pytest.mark.parametrize('say', [0.0, 0.3, 1.0])
def test_trust_changes_classes_and_not_whether_there_is_something(say):
    logits, features, evidence = voxels_of()
    trust = ClassTrust(8)
    out = trust(logits, features, evidence, say)
    torch.testing.assert_close(occupied_logit(out), occupied_logit(logits))
    open_share = torch.sigmoid(torch.tensor(1.0))
    expected = (say * logits[:, 1:] + open_share * evidence).softmax(1)
    torch.testing.assert_close(out[:, 1:].softmax(1), expected)


def test_one_trust_of_a_voxel_names_no_class():
    logits, features, evidence = voxels_of()
    trust = ClassTrust(8)
    torch.nn.init.normal_(trust.trust.weight, std=1.0)
    order = trust(logits, features, evidence, 0.0)[:, 1:].argsort(1)
    assert torch.equal(order, evidence.argsort(1))


def test_training_draws_the_say_and_the_engine_has_its_mean(trusted, make_inputs):
    model, inputs = build_model(trusted), make_inputs(trusted)
    assert model.eval().stage_one(*inputs).say == 0.5
    torch.manual_seed(1)
    first, second = (model.train().stage_one(*inputs) for _ in range(2))
    assert first.say.shape == (1, 1, 1, 1, 1)
    assert first.say != second.say
    drawn = draw_say(4000, 0.25, torch.device('cpu')).flatten()
    assert drawn.min() >= 0 and 0.49 < drawn.max() <= 0.5
    assert drawn.mean() == pytest.approx(0.25, abs=0.01)


def test_without_the_volume_the_classes_are_those_from_outside(trusted, make_inputs):
    """Own masks of the few images of a training may be wrong anywhere else."""
    torch.manual_seed(0)
    model, inputs = build_model(trusted).eval(), make_inputs(trusted)
    said = torch.full((1, *(side // 4 for side in trusted.image_size)), 9, dtype=torch.uint8)
    model.config = replace(trusted, class_say=1e-6)
    with torch.no_grad():
        out = model(*inputs, said)
        seen = model.project(inputs[2]).in_image
    assert (out.stage1_logits[:, 1:].argmax(1)[seen] == 8).all()


@pytest.mark.parametrize(
    'change',
    [
        {'head_upsample': 'trilinear'},
        {'stage1_residual': False},
        {'class_say': 0.0},
        {'class_say': 1.5},
        {'class_evidence': 'gated'},
    ],
)
def test_what_does_not_fit_trust_is_refused(trusted, change):
    with pytest.raises(ConfigError, match='class_evidence trusted|class_say'):
        replace(trusted, **change)
