"""Deformable sampling equals the golden numbers, a loop, and torch's own samplers."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cigocc_ros.model import deform_attention
from cigocc_ros.model.deform_attention import (
    DeformableCrossAttention,
    DeformableSelfAttention3d,
    QueryDepth,
    deformable_sample,
    ring_bias,
    slice_locations,
    stack_slices,
)


def bilinear_by_hand(image: np.ndarray, x: float, y: float) -> np.ndarray:
    """Sample (h, w, D) at normalised (x, y), zero outside, in float64."""
    height, width, depth = image.shape
    px, py = x * width - 0.5, y * height - 0.5
    total = np.zeros(depth)
    for row in (math.floor(py), math.floor(py) + 1):
        for column in (math.floor(px), math.floor(px) + 1):
            if 0 <= row < height and 0 <= column < width:
                share = (1 - abs(py - row)) * (1 - abs(px - column))
                total += share * image[row, column]
    return total


def test_matches_the_golden_numbers(shared_dir):
    golden = np.load(shared_dir / 'golden' / 'ms_deformable_attention.npz')
    names = ('value', 'spatial_shapes', 'sampling_locations', 'attention_weights')
    out = deformable_sample(*(torch.from_numpy(golden[name]) for name in names))
    assert out.shape == golden['output'].shape
    assert np.abs(out.numpy() - golden['output']).max() < 1e-5


def test_matches_a_naive_loop():
    shapes, heads, depth, queries, points = [(3, 5), (2, 4)], 2, 3, 4, 2
    value = torch.randn(2, 23, heads, depth)
    where = torch.rand(2, queries, heads, 2, points, 2) * 1.6 - 0.3  # some outside
    weights = torch.rand(2, queries, heads, 2, points)
    out = deformable_sample(value, shapes, where, weights).numpy()
    expected = np.zeros((2, queries, heads, depth))
    for b, q, m, level, p in np.ndindex(2, queries, heads, 2, points):
        height, width = shapes[level]
        start = 0 if level == 0 else 15
        image = value[b, start : start + height * width, m].numpy().reshape(height, width, depth)
        sampled = bilinear_by_hand(image, *where[b, q, m, level, p].tolist())
        expected[b, q, m] += weights[b, q, m, level, p].item() * sampled
    assert np.abs(out - expected.reshape(2, queries, -1)).max() < 1e-5


def test_needs_a_map():
    with pytest.raises(ValueError, match='at least one map'):
        deformable_sample(
            torch.zeros(1, 0, 1, 1), [], torch.zeros(1, 1, 1, 0, 1, 2), torch.zeros(1, 1, 1, 0, 1)
        )


def test_zero_offsets_sample_the_projected_value_at_the_reference():
    layer = DeformableCrossAttention(channels=6, heads=1, points=1)
    torch.nn.init.zeros_(layer.offsets.bias)
    features, reference = torch.randn(1, 6, 4, 7), torch.rand(1, 5, 2)
    out = layer(torch.randn(1, 5, 6), [features], reference, torch.ones(1, 5))
    value = torch.einsum('dc,bchw->bdhw', layer.value.weight, features)
    sampled = F.grid_sample(value, 2 * reference[:, None] - 1, align_corners=False)[:, :, 0]
    assert torch.allclose(out, layer.output(sampled.transpose(1, 2)), atol=1e-5)


def test_queries_outside_the_image_sample_nothing():
    layer = DeformableCrossAttention(channels=8, heads=2, points=3)
    keep = torch.tensor([[1.0, 0.0]])
    reference = torch.full((1, 2, 2), 0.5)
    out = layer(torch.randn(1, 2, 8), [torch.randn(1, 8, 4, 7)], reference, keep)
    assert torch.equal(out[0, 1], layer.output.bias)
    assert not torch.equal(out[0, 0], layer.output.bias)


def test_offsets_are_cells_of_the_sampled_map():
    layer = DeformableCrossAttention(channels=4, heads=1, points=1)
    with torch.no_grad():
        layer.offsets.bias.copy_(torch.tensor([1.0, 2.0]))
    offsets, weights = layer.plan(torch.zeros(1, 1, 4), (10, 5))
    assert torch.allclose(offsets.flatten(), torch.tensor([0.1, 0.4]))
    assert weights.item() == 1.0


@pytest.mark.parametrize('shape', [(7, 5, 3), (16, 12, 4), (2, 9, 1)])
def test_stacked_slices_equal_volumetric_sampling(shape):
    volume = torch.randn(2, 3, *shape)
    where = torch.rand(2, 40, 1, 4, 3) * 1.5 - 0.25  # a third of the points lie outside
    weights = torch.rand(2, 40, 1, 4)
    uv, both, image_shape = slice_locations(where, weights, shape)
    value = stack_slices(volume).unsqueeze(2)
    out = deformable_sample(value, [image_shape], uv, both)
    # grid_sample wants (x, y, z) of a (D, H, W) volume: our last axis z is its W.
    grid = (2 * where.flip(-1) - 1).reshape(2, 1, 40, 4, 3)
    sampled = F.grid_sample(volume, grid, align_corners=False)[:, :, 0]  # (2, 3, 40, 4)
    expected = (sampled * weights.transpose(1, 2)).sum(-1).transpose(1, 2)
    assert (out - expected).abs().max() < 1e-5


def test_self_attention_at_zero_offsets_is_the_projected_voxel():
    shape = (5, 4, 3)
    layer = DeformableSelfAttention3d(channels=6, heads=2, points=2, shape=shape)
    torch.nn.init.zeros_(layer.offsets.bias)
    voxels = torch.randn(1, 60, 6)
    out = layer(voxels, voxels)
    assert torch.allclose(out, layer.output(layer.value(voxels)), atol=1e-4)


@pytest.mark.parametrize('training', [False, True])
def test_chunks_do_not_change_self_attention(monkeypatch, training):
    def run(limit: int) -> tuple[Tensor, Tensor]:
        torch.manual_seed(1)
        monkeypatch.setattr(deform_attention, 'MAX_SAMPLES', limit)
        layer = DeformableSelfAttention3d(channels=8, heads=2, points=2, shape=(6, 5, 4))
        layer.train(training)
        torch.nn.init.normal_(layer.offsets.weight, std=0.3)
        voxels = torch.randn(1, 120, 8, requires_grad=True)
        out = layer(voxels, voxels)
        out.square().sum().backward()
        assert layer.chunks == (1 if limit > 10**6 else 4)
        return out.detach(), voxels.grad

    whole, parts = run(2**25), run(1000)
    assert torch.allclose(whole[0], parts[0], atol=1e-6)
    assert torch.allclose(whole[1], parts[1], atol=1e-4)


def test_initial_offsets_form_a_ring():
    ring = ring_bias(heads=4, points=3, dims=2)
    assert torch.allclose(ring[0], torch.tensor([[1.0, 0], [2, 0], [3, 0]]), atol=1e-6)
    assert torch.allclose(ring[1, 0], torch.tensor([0.0, 1.0]), atol=1e-6)
    assert torch.allclose(ring[2, 1], torch.tensor([-2.0, 0.0]), atol=1e-6)
    assert ring_bias(4, 3, 3).shape == (4, 3, 3)


def several_levels(depth: bool) -> tuple[DeformableCrossAttention, list[Tensor], Tensor, Tensor]:
    """Return attention to two maps with offsets that matter, the maps, queries and references."""
    torch.manual_seed(1)
    layer = DeformableCrossAttention(8, heads=2, points=3, levels=2, depth=depth).eval()
    with torch.no_grad():
        for part in (layer.offsets, layer.weights):
            part.weight.normal_(std=0.2)
    maps = [torch.randn(1, 8, 6, 10), torch.randn(1, 8, 3, 5)]
    return layer, maps, torch.randn(1, 7, 8), torch.rand(1, 7, 2)


def test_several_levels_sum_up_to_what_each_gives():
    layer, maps, query, reference = several_levels(depth=False)
    keep = torch.ones(1, 7)
    with torch.no_grad():
        found = layer(query, maps, reference, keep)
        raw = layer.offsets(query).reshape(1, 7, 2, 2, 3, 2)
        share = layer.weights(query).reshape(1, 7, 2, 6).softmax(-1).reshape(1, 7, 2, 2, 3)
        total = torch.zeros(1, 7, 8)
        for level, image in enumerate(maps):
            height, width = image.shape[2:]
            value = layer.value(image.flatten(2).transpose(1, 2)).reshape(1, -1, 2, 4)
            where = reference[:, :, None, None] + raw[:, :, :, level] / torch.tensor(
                [width, height]
            )
            total += deformable_sample(
                value, [(height, width)], where[:, :, :, None], share[:, :, :, level : level + 1]
            )
        expected = layer.output(total)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_attention_aware_of_depth_reads_surfaces_at_the_depth_of_the_voxel():
    layer, maps, query, reference = several_levels(depth=True)
    keep = torch.ones(1, 7)
    surface = torch.stack((torch.full((1, 4, 6), 20.0).log(), torch.zeros(1, 4, 6)), dim=1)
    reference = 0.4 + 0.2 * reference  # samples stay inside the maps
    with torch.no_grad():
        layer.offsets.weight.zero_()
        layer.offsets.bias.zero_()
        blind = layer(query, maps, reference, keep) - layer.output.bias
        at, beyond = (
            layer(query, maps, reference, keep, QueryDepth(torch.full((1, 7), metres), surface))
            - layer.output.bias
            for metres in (20.0, 90.0)
        )
        layer.fit[0] = 40.0  # a floor of 1: blind again
        open_to_all = layer(
            query, maps, reference, keep, QueryDepth(torch.full((1, 7), 90.0), surface)
        )
    torch.testing.assert_close(at, blind, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(beyond, 0.5 * blind, atol=1e-5, rtol=1e-3)
    torch.testing.assert_close(open_to_all - layer.output.bias, blind, atol=1e-5, rtol=1e-4)
