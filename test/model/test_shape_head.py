"""The head with classes at the query grid: its answers are those of its logits."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.labels import EMPTY, VOXEL_COUNTS
from cigocc_ros.model.answers import logit_answers, shape_answers
from cigocc_ros.model.build import build_model
from cigocc_ros.model.lifting import channels_to_space
from cigocc_ros.model.logits import occupied_logit
from cigocc_ros.model.shape_head import ShapeHead, every_second, shape_logits


@pytest.fixture
def fine(tiny):
    """Return the config of a network whose output is four times as fine as its queries."""
    x, y, z = (4 * n for n in tiny.query_shape)
    return replace(tiny, head_upsample='shape', output_shape=(x, y, z))


@pytest.fixture(params=[2, 4])
def shape(request, tiny_with, fine):
    """Return what a head with large random weights says of a random volume."""
    head = ShapeHead(fine if request.param == 4 else tiny_with(head_upsample='shape')).eval()
    with torch.no_grad():
        for layer in filter(None, (head.classify, head.shape, head.fine)):
            layer.weight.normal_()
            layer.bias.normal_()
        said = head.say(torch.randn(2, 16, 6, 4, 4), None, None)
    assert said.occupied.shape[2:] == tuple(request.param * n for n in (6, 4, 4))
    return said


def test_labels_and_probabilities_are_those_of_the_logits(shape):
    labels, probability, share = shape_answers(shape)
    expected, _ = logit_answers(shape_logits(shape))
    assert torch.equal(labels, expected.labels)
    torch.testing.assert_close(probability, expected.occupied, atol=1e-6, rtol=0)
    torch.testing.assert_close(share, expected.class_share, atol=1e-5, rtol=0)
    assert len(labels.unique()) > 6 and (labels == EMPTY).any()


def test_the_voxels_of_a_query_share_their_class_and_not_their_shape(shape):
    labels = shape_answers(shape)[0]
    batch, x, y, z = labels.shape
    f = x // shape.classes.shape[2]
    blocks = labels.reshape(batch, x // f, f, y // f, f, z // f, f)
    blocks = blocks.permute(0, 1, 3, 5, 2, 4, 6).reshape(-1, f**3)
    kinds = [set(block[block != EMPTY].tolist()) for block in blocks]
    assert max(map(len, kinds)) == 1
    mixed = ((blocks == EMPTY).any(1) & (blocks != EMPTY).any(1)).float().mean()
    assert mixed > 0.1


def test_the_logits_are_probabilities_of_one_whole(shape):
    p = shape_logits(shape).softmax(1)
    torch.testing.assert_close(1.0 - p[:, EMPTY], torch.sigmoid(shape.occupied[:, 0]))


def test_it_starts_at_the_stage_one_logits(tiny_with):
    head = ShapeHead(tiny_with(head_upsample='shape', stage1_residual=True)).eval()
    stage1 = torch.randn(1, 20, 4, 4, 2)
    with torch.no_grad():
        for layer in (head.classify, head.shape):
            layer.weight.zero_()
        found = head.say(torch.randn(1, 16, 4, 4, 2), None, stage1)
    torch.testing.assert_close(found.classes, stage1[:, 1:])
    smooth = torch.nn.functional.interpolate(
        occupied_logit(stage1), scale_factor=2.0, mode='trilinear', align_corners=False
    )
    torch.testing.assert_close(found.occupied, smooth)


def test_the_logit_of_occupied_is_that_of_the_softmax():
    logits = 4.0 * torch.randn(2, 20, 3, 3, 2)
    likely = 1.0 - logits.softmax(1)[:, EMPTY]
    torch.testing.assert_close(torch.sigmoid(occupied_logit(logits))[:, 0], likely)


def test_without_a_residual_it_starts_at_the_class_frequencies(tiny_with):
    head = ShapeHead(tiny_with(head_upsample='shape')).eval()
    with torch.no_grad():
        for layer in (head.classify, head.shape):
            layer.weight.zero_()
        share = head(torch.randn(1, 16, 4, 4, 2)).softmax(1).mean((0, 2, 3, 4)).numpy()
    assert np.abs(share - VOXEL_COUNTS / VOXEL_COUNTS.sum()).max() < 1e-5


def test_a_shift_makes_fewer_voxels_occupied(tiny_with):
    head = ShapeHead(tiny_with(head_upsample='shape')).eval()
    volume = torch.randn(1, 16, 4, 4, 2)
    with torch.no_grad():
        before = head.say(volume, None, None).occupied
        head.raise_empty(2.5)
        change = head.say(volume, None, None).occupied - before
    torch.testing.assert_close(change, torch.full_like(change, -2.5))
    with pytest.raises(ConfigError, match='finite'):
        head.raise_empty(float('nan'))


def test_a_threshold_proposes_the_same_voxels_as_with_any_head(tiny_with, make_inputs):
    config = tiny_with(head_upsample='shape', proposal_threshold=0.1)
    model = build_model(config).eval()
    with torch.no_grad():
        model.stage1_classify.weight.normal_()
        one = model.stage_one(*make_inputs(config))
        occupied = 1.0 - one.logits.softmax(1)[:, EMPTY]
        wanted = (occupied > 0.1) | (one.hit > 0.5)
        found = model._propose(one)[0]
    proposed = torch.zeros(wanted[0].numel() + 1, dtype=torch.bool)
    proposed[found] = True
    expected = (wanted & one.geometry.in_image).flatten()
    assert expected.any() and expected.sum() <= config.max_proposals
    assert torch.equal(proposed[:-1], expected)


def test_a_fine_shape_starts_as_the_coarse_one(tiny_with, fine):
    coarse, head = ShapeHead(tiny_with(head_upsample='shape')).eval(), ShapeHead(fine).eval()
    missing = head.load_state_dict(coarse.state_dict(), strict=False)
    assert set(missing.missing_keys) == {'fine.weight', 'fine.bias'}
    volume = torch.randn(1, 16, 6, 4, 4)
    with torch.no_grad():
        expected = torch.nn.functional.interpolate(
            coarse.say(volume, None, None).occupied, scale_factor=2.0, mode='trilinear'
        )
        torch.testing.assert_close(head.say(volume, None, None).occupied, expected)


def test_64_channels_are_the_voxels_of_a_cube():
    blocks = torch.arange(64.0).reshape(1, 1, 64, 1, 1, 1).expand(-1, -1, -1, 2, 3, 1)
    volume = channels_to_space(blocks, 4)
    assert volume.shape == (1, 1, 8, 12, 4)
    assert torch.equal(volume[0, 0, 4:8, 8:12, :4].flatten(), torch.arange(64.0))


@pytest.mark.parametrize('lattice', [(0, 0, 0), (1, 0, 1)])
def test_training_sees_an_eighth_of_a_fine_output(fine, make_inputs, lattice):
    config = replace(fine, stage1_residual=True, class_evidence='trusted')
    torch.manual_seed(0)
    model, inputs = build_model(config).eval(), make_inputs(config)
    torch.nn.init.normal_(model.head.fine.weight)
    with torch.no_grad():
        whole, part = model(*inputs), model(*inputs, lattice=lattice)
    assert whole.logits.shape[2:] == config.output_shape
    i, j, k = lattice
    torch.testing.assert_close(part.logits, whole.logits[..., i::2, j::2, k::2])
    labels = torch.arange(2 * 4 * 4 * 2).reshape(2, 4, 4, 2)
    assert torch.equal(every_second(labels, lattice), labels[:, i::2, j::2, k::2])
    half_m = 0.5 * np.mean(config.evidence_grid.voxel_size_m)
    assert model.lift.half_edge_m == pytest.approx(half_m)


def test_only_this_head_may_be_four_times_as_fine(fine):
    with pytest.raises(ConfigError, match='or with head_upsample shape four times'):
        replace(fine, head_upsample='subvoxel')
    with pytest.raises(ConfigError, match='must be twice query_shape'):
        replace(fine, output_shape=tuple(3 * n for n in fine.query_shape))
