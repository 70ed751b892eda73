"""The whole network: shapes, batches, gradients, precision and every switch."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cigocc_ros.core.config import load_model_config
from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.labels import VOXEL_COUNTS
from cigocc_ros.model.build import build_model
from cigocc_ros.model.semantic_prior import SAID_LOGIT


def scalar(output) -> torch.Tensor:
    return sum(tensor.float().square().mean() for tensor in output)


def wake_offsets(model: torch.nn.Module) -> None:
    """Give offset and weight layers, which start at zero, numbers as after some training."""
    for name, parameter in model.named_parameters():
        if name.endswith(('offsets.weight', 'weights.weight')):
            torch.nn.init.normal_(parameter, std=0.05)


@pytest.mark.parametrize('name', ['tiny', 'small'])
def test_output_shapes(name, make_inputs):
    config = load_model_config(name)
    model = build_model(config).eval()
    with torch.no_grad():
        output = model(*make_inputs(config))
    height, width = (size // 4 for size in config.image_size)
    assert output.logits.shape == (1, 20, *config.output_shape)
    assert output.stage1_logits.shape == (1, 20, *config.query_shape)
    assert output.mask_logits.shape == (1, 19, height, width)
    assert output.semantic_mask_logits.shape == (1, 19, height, width)
    assert output.semantic_features.shape == (1, config.semantic_channels, height, width)
    assert output.depth_log_mean.shape == output.depth_log_scale.shape == (1, height, width)
    assert all(tensor.isfinite().all() and tensor.dtype == torch.float32 for tensor in output)


def test_a_batch_equals_its_samples(tiny, make_inputs):
    model = build_model(tiny).eval()
    wake_offsets(model)
    batch = list(make_inputs(tiny, batch=2))
    batch[2] = batch[2].clone()
    batch[2][1, 0] += 2.0 * batch[2][1, 2]  # another principal point
    with torch.no_grad():
        both = model(*batch)
        singles = [model(*(x[i : i + 1] for x in batch)) for i in range(2)]
    for name, joint, first, second in zip(both._fields, both, *singles, strict=True):
        assert torch.allclose(joint, torch.cat((first, second)), atol=1e-4), name


@pytest.mark.parametrize('lifting', ['gather', 'scatter'])
@pytest.mark.parametrize('completion', ['complement', 'mask_token'])
def test_gradients_reach_every_parameter(tiny_with, make_inputs, lifting, completion):
    config = tiny_with(lifting=lifting, completion=completion)
    model = build_model(config)
    wake_offsets(model)
    scalar(model(*make_inputs(config))).backward()
    dead = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    # The measured depth's scale has no part in averaging points.
    assert dead == (['depth.prior_scale'] if lifting == 'scatter' else [])


@pytest.mark.parametrize(
    'change',
    [
        {'fusion': 'concat'},
        {'fusion': 'none'},
        {'queries': 'static'},
        {'completion': 'add'},
        {'lifting': 'scatter'},
        {'head_upsample': 'trilinear'},
        {'head_upsample': 'subvoxel_shape'},
        {'fusion_residual': 'both'},
        {'image_skip': True},
        {'stage1_residual': True},
        {'depth_fusion': 'fused'},
        {'semantic_prior': True},
        {'head_upsample': 'shape'},
        {'evidence_points': 2},
        {'unet_blocks': 'residual'},
        {'fusion_points': 2},
        {'cross_points': 2},
        {'cross_levels': (8, 16)},
        {'cross_depth': True},
        {'self_stride': 2},
        {'lift_channels': 8},
        {'lift_channels': 8, 'image_skip': True},
        {'lifting': 'scatter', 'image_skip': True},
    ],
    ids=lambda change: '-'.join(map(str, *change.items())) if len(change) == 1 else str(change),
)
def test_every_switch_trains(tiny_with, make_inputs, change):
    config = tiny_with(**change)
    model = build_model(config)
    output = model(*make_inputs(config))
    assert output.logits.shape == (1, 20, *config.output_shape)
    loss = scalar(output)
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_runs_without_any_prior(tiny, make_inputs):
    model = build_model(tiny)
    output = model(*make_inputs(tiny, prior=0.0))
    scalar(output).backward()
    assert all(tensor.isfinite().all() for tensor in output)
    assert model.depth.predict.weight.grad.any()


def test_the_prior_and_the_calibration_matter(tiny, make_inputs):
    model = build_model(tiny).eval()
    image, prior, forth, back = make_inputs(tiny)
    with torch.no_grad():
        first = model(image, prior, forth, back).stage1_logits
        constant = model(image, torch.full_like(prior, 8.0), forth, back).stage1_logits
        scaled = forth * torch.tensor([0.5, 0.5, 1.0])[:, None]
        other = model(image, prior, scaled, back).stage1_logits
    assert (first - constant).abs().max() > 1e-2
    assert (first - other).abs().max() > 1e-2


def test_a_camera_that_sees_nothing_of_the_grid(tiny, make_inputs):
    image, prior, forth, back = make_inputs(tiny)
    model = build_model(tiny).eval()
    with torch.no_grad():
        output = model(image, prior, -forth, back)
    assert all(tensor.isfinite().all() for tensor in output)


def test_teacher_features_replace_the_students(tiny, make_inputs):
    model = build_model(tiny).eval()
    inputs = make_inputs(tiny)
    with torch.no_grad():
        student = model(*inputs)
        same = model(*inputs, teacher_features=student.semantic_features)
        other = model(*inputs, teacher_features=student.semantic_features + 1.0)
    assert torch.equal(student.logits, same.logits)
    assert not torch.equal(student.logits, other.logits)
    assert torch.equal(student.semantic_features, other.semantic_features)


def test_stage_one_alone_gives_the_same_logits(tiny, make_inputs):
    model = build_model(tiny).eval()
    inputs = make_inputs(tiny)
    with torch.no_grad():
        assert torch.equal(model.stage_one(*inputs).logits, model(*inputs).stage1_logits)


def test_nothing_is_asked_that_dynamo_of_torch_2_11_cannot_trace(tiny, make_inputs, monkeypatch):
    # torch.compile of 2.11 made 34 graphs of the network with it and makes one without
    def asked(kind):
        raise AssertionError(f'autocast of {kind} asked for')

    monkeypatch.setattr(torch.amp, 'is_autocast_available', asked)
    monkeypatch.setattr(torch._C, '_is_autocast_available', asked)
    with torch.no_grad():
        assert build_model(tiny).eval()(*make_inputs(tiny)).logits.isfinite().all()


def test_bfloat16_autocast_trains_close_to_float32(tiny, make_inputs):
    model = build_model(tiny).eval()
    inputs = make_inputs(tiny)
    plain = model(*inputs)
    with torch.autocast('cpu', torch.bfloat16):
        mixed = model(*inputs)
    scalar(mixed).backward()
    assert all(tensor.dtype == torch.float32 for tensor in mixed)
    difference = (plain.stage1_logits - mixed.stage1_logits).abs().mean()
    assert 0 < difference < 0.05
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_classifiers_start_at_the_class_frequencies(tiny):
    model = build_model(tiny)
    for bias in (model.stage1_classify.bias, model.head.classify.bias):
        share = bias.detach().softmax(0).numpy()
        assert np.abs(share - VOXEL_COUNTS / VOXEL_COUNTS.sum()).max() < 1e-5


WAYS = {
    'class_evidence': 'trusted',
    'class_say': 0.5,
    'fusion_residual': 'both',
    'image_skip': True,
    'stage1_residual': True,
    'depth_fusion': 'fused',
    'semantic_prior': True,
    'evidence_points': 4,
    'unet_blocks': 'residual',
    'fusion_points': 2,
    'cross_points': 2,
    'cross_levels': (8, 16),
    'cross_depth': True,
    'self_stride': 2,
    'head_upsample': 'shape',
    'lift_channels': 8,
}


def some_classes(config) -> torch.Tensor:
    height, width = (size // 4 for size in config.image_size)
    return torch.arange(height * width).reshape(1, height, width).remainder(20).to(torch.uint8)


def test_with_every_way_gradients_reach_every_parameter(tiny_with, make_inputs):
    config = tiny_with(**WAYS)
    model = build_model(config)
    wake_offsets(model)
    with torch.no_grad():
        model.depth.correct.weight.normal_(std=0.1)
    scalar(model(*make_inputs(config), some_classes(config))).backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]


@pytest.mark.parametrize('width', [None, 8])
@pytest.mark.parametrize('lifting', ['gather', 'scatter'])
def test_the_features_of_a_pixel_reach_h_at_its_voxels_alone(
    tiny_with, make_inputs, lifting, width
):
    config = tiny_with(image_skip=True, lifting=lifting, lift_channels=width)
    model = build_model(config).eval()
    inputs = make_inputs(model.config)
    with torch.no_grad():
        plain = model.stage_one(*inputs)
        model.unet.out.weight.zero_()  # what is left of H is the skip
        model.unet.out.bias.zero_()
        skipped = model.stage_one(*inputs)
    reached = skipped.hidden.abs().amax(1) > 0
    assert torch.equal(reached, plain.geometry.in_image)


def test_the_head_starts_at_the_stage_one_logits(tiny_with, make_inputs):
    config = tiny_with(stage1_residual=True, head_upsample='trilinear')
    model = build_model(config).eval()
    with torch.no_grad():
        model.head.classify.weight.zero_()
        output = model(*make_inputs(config))
    expected = torch.nn.functional.interpolate(
        output.stage1_logits, scale_factor=2.0, mode='trilinear', align_corners=False
    )
    torch.testing.assert_close(output.logits, expected)


@pytest.mark.parametrize('evidence', ['none', 'gated'])
def test_classes_from_outside_speak_where_they_are_said(tiny_with, make_inputs, evidence):
    config = tiny_with(semantic_prior=True, class_evidence=evidence)
    model = build_model(config).eval()
    inputs = make_inputs(config)
    height, width = (size // 4 for size in config.image_size)
    nothing = torch.zeros(1, height, width, dtype=torch.uint8)
    said = nothing.clone()
    said[0, 5, 20] = 13
    beyond = torch.full_like(nothing, 255)
    with torch.no_grad():
        without, zeros, one, wrong = (
            model(*inputs, prior) for prior in (None, nothing, said, beyond)
        )
    for name, first, second, third in zip(without._fields, without, zeros, wrong, strict=True):
        assert torch.equal(first, second) and torch.equal(first, third), name
    assert torch.equal(one.semantic_mask_logits, without.semantic_mask_logits), 'its own'
    image, depth, _, velo_from_pixel = inputs
    with torch.no_grad():
        sight = model.see(image, depth, velo_from_pixel, said)
    masks, own = sight.class_masks[0], sight.semantic_mask_logits[0]
    expected = torch.nn.functional.one_hot(torch.tensor(12), 19) * SAID_LOGIT
    torch.testing.assert_close(masks[:, 5, 20], expected)
    elsewhere = (said[0] == 0).expand_as(own)
    assert torch.equal(masks[elsewhere], own[elsewhere])
    assert not torch.equal(one.stage1_logits, without.stage1_logits)


def test_a_network_without_the_input_leaves_classes_alone(tiny, make_inputs):
    model = build_model(tiny).eval()
    inputs = make_inputs(tiny)
    with torch.no_grad():
        assert torch.equal(model(*inputs).logits, model(*inputs, some_classes(tiny)).logits)


@pytest.mark.parametrize('levels', [(32,), (16, 16), (), (4,), (8, 12)])
def test_levels_that_the_backbone_has_not_are_refused(tiny_with, levels):
    with pytest.raises(ConfigError, match='cross_levels'):
        tiny_with(cross_levels=levels)


def test_a_backbone_of_four_stages_gives_a_level_of_stride_32(tiny, tiny_with, make_inputs):
    backbone = replace(tiny.backbone, hidden_sizes=(16, 16, 24, 32), depths=(1, 1, 1, 1))
    with pytest.raises(ConfigError, match='multiples of 32'):
        tiny_with(backbone=backbone)
    config = tiny_with(backbone=backbone, image_size=(64, 160), cross_levels=(8, 16, 32))
    model = build_model(config).eval()
    seen = []
    model.cignet.cross[0].attend.register_forward_pre_hook(lambda _, args: seen.append(args[1]))
    with torch.no_grad():
        model(*make_inputs(config))
    assert [tuple(level.shape[2:]) for level in seen[0]] == [(8, 20), (4, 10), (2, 5)]


@pytest.mark.parametrize(
    'change',
    [
        {'image_skip': True, 'fusion': 'none'},
        {'semantic_prior': True, 'fusion': 'none'},
        {'fusion_residual': 'both', 'fusion': 'concat'},
    ],
)
def test_ways_without_what_they_carry_are_refused(tiny_with, change):
    with pytest.raises(ConfigError, match='fusion'):
        tiny_with(**change)
