"""Lifting: evidence from depth distributions, the group-by reference, folding, projection."""

import math

import numpy as np
import pytest
import torch

from cigocc_ros.core.grid import VoxelGrid
from cigocc_ros.core.projection import project_voxels
from cigocc_ros.model.branches import DepthMaps
from cigocc_ros.model.geometry import Projection, VoxelProjector, pixel_rays
from cigocc_ros.model.lifting import (
    GatherLift,
    ScatterLift,
    channels_to_space,
    evidence_shifts,
    lift_points,
    look_up,
    sample_at_voxels,
)


def depth_maps(mean_m: torch.Tensor, scale_m: torch.Tensor) -> DepthMaps:
    cell = mean_m[:, 1::4, 1::4]
    logs = (cell.log(), cell.log())
    return DepthMaps(*logs, mean_m, scale_m, cell, torch.ones_like(cell), *logs)


def space_to_channels(volume: torch.Tensor) -> torch.Tensor:
    """Fold 2x2x2 blocks of (B, C, 2X, 2Y, 2Z) into channels: (B, C, 8, X, Y, Z)."""
    b, c, x, y, z = volume.shape
    blocks = volume.reshape(b, c, x // 2, 2, y // 2, 2, z // 2, 2).permute(0, 1, 3, 5, 7, 2, 4, 6)
    return blocks.reshape(b, c, 8, x // 2, y // 2, z // 2)


def test_projection_equals_core(tiny, kitti_like, make_inputs):
    projector = VoxelProjector(tiny.output_grid, tiny.image_size)
    found = projector(make_inputs(tiny)[2])
    uv, depth, inside = project_voxels(tiny.output_grid, *kitti_like(tiny))
    assert np.array_equal(found.in_image[0].numpy(), inside)
    assert 0.3 < inside.mean() < 0.9
    assert np.abs(found.u_px[0].numpy() - uv[..., 0])[inside].max() < 1e-3
    assert np.abs(found.v_px[0].numpy() - uv[..., 1])[inside].max() < 1e-3
    assert np.abs(found.depth_m[0].numpy() - depth).max() < 1e-4


def test_folded_projection_is_that_of_each_block(tiny, make_inputs):
    forth = make_inputs(tiny, batch=2)[2]
    straight = VoxelProjector(tiny.output_grid, tiny.image_size)(forth)
    folded = VoxelProjector(tiny.output_grid, tiny.image_size, fold=2)(forth)
    for one, other in zip(folded, straight, strict=True):
        assert torch.equal(one, space_to_channels(other.unsqueeze(1))[:, 0])


def test_rays_hit_the_voxel_they_project_to(tiny, make_inputs):
    _, _, forth, back = make_inputs(tiny)
    rays = pixel_rays(back, tiny.image_size, 4)
    point = rays[0, :, 2, 5] * 17.0 + back[0, :, 3]
    pixel = forth[0, :, :3] @ point + forth[0, :, 3]
    assert pixel[2].item() == pytest.approx(17.0, abs=1e-4)
    assert (pixel[:2] / pixel[2]).tolist() == pytest.approx([4 * 5 + 1.5, 4 * 2 + 1.5], abs=1e-3)


def test_folding_keeps_blocks_and_unfolds():
    volume = torch.arange(2 * 3 * 4 * 6 * 8.0).reshape(2, 3, 4, 6, 8)
    folded = space_to_channels(volume)
    assert folded.shape == (2, 3, 8, 2, 3, 4)
    block = volume[1, 2, 2:4, 4:6, 6:8].flatten()
    assert torch.equal(folded[1, 2, :, 1, 2, 3], block)
    assert torch.equal(channels_to_space(folded), volume)


def test_evidence_of_one_voxel_by_hand(tiny, make_inputs):
    lift = GatherLift(tiny)
    forth = make_inputs(tiny)[2]
    voxels = VoxelProjector(tiny.output_grid, tiny.image_size)(forth)
    mean = torch.full((1, *tiny.image_size), 20.0)
    scale = torch.full_like(mean, 0.8)
    evidence, relative, inside = lift._evidence(depth_maps(mean, scale), forth)
    # Query voxel (6, 8, 1), sub-voxel 5 = (1, 0, 1): output voxel (13, 16, 3).
    assert voxels.in_image[0, 12:14, 16:18, 2:4].all()
    depth = voxels.depth_m[0, 13, 16, 3].item()
    half = 0.5 * (1.6 + 1.6 + 0.8) / 3

    def cdf(t: float) -> float:
        return 1 / (1 + math.exp(-(t - 20.0) / 0.8))

    hit = cdf(depth + half) - cdf(depth - half)
    found = evidence[0, :, 6, 8, 1].reshape(3, 8)[:, 5]
    expected = [hit, 1 - cdf(depth + half), cdf(depth - half)]
    assert found.tolist() == pytest.approx(expected, abs=1e-5)
    assert inside[0, 6, 8, 1] == 1.0
    assert relative.min() >= 0.0 and relative.max() <= 1.0 + 1e-5


def test_evidence_sums_to_the_view(tiny, make_inputs):
    lift = GatherLift(tiny)
    forth = make_inputs(tiny)[2]
    voxels = VoxelProjector(tiny.output_grid, tiny.image_size)(forth)
    mean = torch.rand(1, *tiny.image_size) * 40 + 2
    evidence, _, inside = lift._evidence(depth_maps(mean, mean * 0.05 + 0.1), forth)
    total = evidence.reshape(1, 3, 8, *tiny.query_shape).sum(1)
    view = space_to_channels(voxels.in_image.float().unsqueeze(1))[:, 0]
    assert torch.allclose(total, view, atol=1e-6)
    assert torch.allclose(inside, view.mean(1))


def test_look_up_takes_the_nearest_pixel():
    mean = torch.arange(12.0).reshape(1, 3, 4) + 1
    where = [torch.tensor([x]).reshape(1, 1, 1, 1) for x in (2.6, 0.4, 5.0)]
    voxels = Projection(where[0], where[1], where[2], torch.ones(1, 1, 1, 1, dtype=torch.bool))
    found, scale = look_up(depth_maps(mean, 2 * mean), voxels)
    assert found.item() == 4.0 and scale.item() == 8.0


def test_depth_receives_a_gradient_through_gather(tiny, make_inputs):
    _, _, forth, _ = make_inputs(tiny)
    lift = GatherLift(tiny)
    geometry = VoxelProjector(tiny.query_grid, tiny.image_size)(forth)
    mean = torch.full((1, *tiny.image_size), 15.0, requires_grad=True)
    scale = torch.full((1, *tiny.image_size), 1.0, requires_grad=True)
    fused = torch.randn(1, tiny.channels, 12, 40)
    volume, hit, _ = lift(fused, depth_maps(mean, scale), geometry, forth)
    assert volume.shape == (1, lift.out_channels, *tiny.query_shape)
    assert hit.shape == (1, *tiny.query_shape)
    volume.square().sum().backward()
    assert mean.grad.abs().sum() > 0 and scale.grad.abs().sum() > 0


def test_features_are_sampled_at_the_voxels_pixel(tiny, make_inputs):
    geometry = VoxelProjector(tiny.query_grid, tiny.image_size)(make_inputs(tiny)[2])
    height, width = tiny.image_size
    u = (torch.arange(width // 4) * 4 + 1.5).expand(height // 4, -1)
    v = (torch.arange(height // 4) * 4 + 1.5)[:, None].expand(-1, width // 4)
    sampled = sample_at_voxels(torch.stack((u, v))[None], geometry, tiny.image_size)
    inner = geometry.in_image & (geometry.u_px > 2) & (geometry.u_px < width - 3)
    inner &= (geometry.v_px > 2) & (geometry.v_px < height - 3)
    assert inner.sum() > 50
    assert (sampled[:, 0] - geometry.u_px)[inner].abs().max() < 1e-3
    assert (sampled[:, 1] - geometry.v_px)[inner].abs().max() < 1e-3


def grouped_by_hand(features, points, valid, grid):
    """Return mean features, log count and mean in-voxel offset with plain numpy and a dict."""
    index, inside = grid.index_of(points)
    volume = np.zeros((features.shape[1] + 4, *grid.shape))
    members = {}
    for n in np.flatnonzero(inside & valid):
        members.setdefault(tuple(index[n]), []).append(n)
    for cell, rows in members.items():
        offset = (points[rows] - grid.center_of(np.array(cell))) / np.asarray(grid.voxel_size_m)
        volume[(slice(None), *cell)] = np.concatenate(
            [features[rows].mean(0), [math.log1p(len(rows))], offset.mean(0)]
        )
    return volume


@pytest.fixture
def cloud():
    generator = np.random.default_rng(3)
    grid = VoxelGrid((0.0, -2.0, -1.0), (0.5, 0.5, 0.5), (6, 8, 4))
    points = generator.uniform([-0.5, -2.5, -1.5], [3.5, 2.5, 1.5], (300, 3)).astype(np.float32)
    features = generator.normal(size=(300, 5)).astype(np.float32)
    return grid, points, features, generator.random(300) < 0.8


def test_scatter_equals_a_group_by(cloud):
    grid, points, features, valid = cloud
    tensors = [torch.from_numpy(x)[None] for x in (features, points, valid)]
    volume, count = lift_points(*tensors, grid)
    expected = grouped_by_hand(features, points, valid, grid)
    assert np.abs(volume[0].numpy() - expected).max() < 1e-5
    assert count.sum() == (grid.index_of(points)[1] & valid).sum()


def test_scatter_does_not_depend_on_the_order(cloud):
    grid, points, features, valid = cloud
    order = np.random.default_rng(4).permutation(300)
    first, second = (
        lift_points(*(torch.from_numpy(x[rows])[None] for x in (features, points, valid)), grid)[0]
        for rows in (np.arange(300), order)
    )
    assert (first - second).abs().max() < 1e-5


def test_scatter_drops_padding_pixels(tiny_with, make_inputs):
    config = tiny_with(lifting='scatter')
    image, _, _, back = make_inputs(config)
    image = image.clamp(min=1)
    mean = torch.full((1, *config.image_size), 12.0)
    fused = torch.randn(1, config.channels, 12, 40)
    lift = ScatterLift(config)
    _, hit = lift(fused, depth_maps(mean, mean), image, back)
    assert hit.sum() > 0
    _, hit = lift(fused, depth_maps(mean, mean), torch.zeros_like(image), back)
    assert hit.sum() == 0


@pytest.mark.parametrize('points', [1, 2, 4, 8])
def test_points_of_evidence_lie_in_every_row_and_column_of_the_voxel(points):
    shifts = np.array(evidence_shifts(points))
    places = np.sort(shifts[:, 1:], axis=0)
    expected = (np.arange(points) + 0.5) / points - 0.5
    assert np.allclose(places, expected[:, None]) and not shifts[:, 0].any()


def test_more_points_find_more_of_a_road_at_grazing_angles(tiny_with, make_inputs):
    """Of the voxels that hold a point of a slightly tilted road, more are hit."""
    config = tiny_with(**SIZES)
    _, _, forth, back = make_inputs(config)
    rays = pixel_rays(back, config.image_size, 1)
    across = torch.tensor([-0.02, 0.03, 1.0]).reshape(1, 3, 1, 1)
    down, height = (rays * across).sum(1), (back[:, :, 3, None, None] * across).sum(1)
    road_m = torch.where(down < -1e-3, (-1.7 - height) / down.clamp(max=-1e-3), 200.0)
    depth = depth_maps(road_m, torch.full_like(road_m, 0.05))
    points = rays * road_m.unsqueeze(1) + back[:, :, 3, None, None]
    rows = points.flatten(2).transpose(1, 2)
    held = road_m.flatten(1) < 60.0
    _, count = lift_points(rows[..., :1], rows, held, config.output_grid)
    overlaps = []
    for number in (1, 2, 4):
        lift = GatherLift(tiny_with(**{**SIZES, 'evidence_points': number}))
        evidence, _, _ = lift._evidence(depth, forth)
        hit = channels_to_space(evidence[:, :8].unsqueeze(1))[:, 0] > 0.5
        wanted = count > 0
        overlaps.append(((hit & wanted).sum() / (hit | wanted).sum()).item())
    assert overlaps[0] < 0.35 and overlaps[1] > 1.3 * overlaps[0] and overlaps[2] > overlaps[1]


SIZES = {
    'image_size': (192, 640),
    'output_shape': (128, 128, 16),
    'query_shape': (64, 64, 8),
}
