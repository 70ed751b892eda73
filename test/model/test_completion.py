"""Stage 2: what is complemented, what stays untouched, and what order may not matter."""

import pytest
import torch

from cigocc_ros.model.completion import CigNet, Completion, FactorisedPosition


@pytest.fixture
def parts(tiny):
    count = 16 * 16 * 4
    hidden = torch.randn(2, count, tiny.channels)
    index = torch.stack([torch.randperm(count)[:50], torch.randperm(count)[:50]])
    index[1, 30:] = count
    outside = torch.ones(2, count + 1, dtype=torch.bool).scatter(1, index, False)[:, :count]
    return hidden, index, torch.randn(2, 50, tiny.channels), outside


def test_complement_leaves_the_raw_volume_outside_the_proposals(tiny, parts):
    hidden, index, query, outside = parts
    layer = Completion(tiny)
    out = layer(hidden, index, query)
    assert torch.equal(out[outside], layer.raw(hidden)[outside])
    assert torch.equal(out[0, index[0]], query[0])
    assert torch.equal(out[1, index[1, :30]], query[1, :30])


def test_add_joins_query_and_raw_volume(tiny_with, parts):
    hidden, index, query, outside = parts
    layer = Completion(tiny_with(completion='add'))
    raw, out = layer.raw(hidden), layer(hidden, index, query)
    assert torch.equal(out[outside], raw[outside])
    assert torch.allclose(out[0, index[0]], query[0] + raw[0, index[0]])


def test_mask_token_fills_everything_else(tiny_with, parts):
    hidden, index, query, outside = parts
    layer = Completion(tiny_with(completion='mask_token'))
    out = layer(hidden, index, query)
    assert torch.equal(out[outside], layer.mask_token[0].expand(int(outside.sum()), -1))
    assert torch.equal(out[0, index[0]], query[0])


@pytest.mark.parametrize('completion', ['complement', 'add', 'mask_token'])
def test_the_order_of_proposals_does_not_matter(tiny_with, completion):
    config = tiny_with(completion=completion)
    net = CigNet(config).eval()
    volume = torch.randn(1, config.channels, *config.query_shape)
    features = torch.randn(1, config.channels, 3, 10)
    reference = torch.rand(1, *config.query_shape, 2)
    view = torch.rand(1, *config.query_shape) < 0.7
    index = torch.randperm(1024)[None, :100]
    first = net(volume, index, [features], reference, view)
    second = net(volume, index[:, torch.randperm(100)], [features], reference, view)
    assert first.shape == volume.shape
    assert torch.allclose(first, second, atol=1e-6)


def updated_volume(config, volume, features):
    torch.manual_seed(3)
    net = CigNet(config).eval()
    everywhere = torch.ones(1, *config.query_shape, dtype=torch.bool)
    reference = torch.full((1, *config.query_shape, 2), 0.5)
    return net(volume, torch.arange(100)[None], [features], reference, everywhere)


@pytest.mark.parametrize('queries', ['unet', 'static'])
def test_static_queries_and_a_mask_token_leave_only_the_image(tiny_with, queries):
    config = tiny_with(queries=queries, completion='mask_token')
    volume = torch.randn(1, config.channels, *config.query_shape)
    features = torch.randn(1, config.channels, 3, 10)
    first = updated_volume(config, volume, features)
    other_volume = updated_volume(config, volume + 1.0, features)
    other_image = updated_volume(config, volume, features + 1.0)
    assert torch.equal(first, other_volume) == (queries == 'static')
    assert not torch.equal(first, other_image)


def test_static_queries_differ_from_voxel_to_voxel(tiny_with):
    queries = CigNet(tiny_with(queries='static')).query(torch.zeros(2, 16 * 16 * 4, 16))
    assert torch.equal(queries[0], queries[1])
    assert queries[0].unique(dim=0).shape == (16 * 16 * 4, 16)


def test_queries_of_the_unet_are_the_default(tiny):
    assert tiny.queries == 'unet'
    assert isinstance(CigNet(tiny).query, torch.nn.Linear)


def test_position_of_some_voxels_is_that_of_all():
    torch.manual_seed(5)
    position = FactorisedPosition((3, 4, 5), 6)
    voxels = torch.randn(2, 60, 6)
    index = torch.stack([torch.randperm(60)[:20], torch.randperm(60)[:20]])
    chosen = index.unsqueeze(-1).expand(-1, -1, 6)
    found = position.at(voxels.gather(1, chosen), index)
    assert torch.equal(found, position(voxels).gather(1, chosen))


@pytest.mark.parametrize('queries', ['unet', 'static'])
def test_queries_are_made_of_the_proposed_voxels_alone(tiny_with, queries):
    """As if the layer had worked on all; free slots (N) change nothing."""
    torch.manual_seed(6)
    net = CigNet(tiny_with(queries=queries))
    flat = torch.randn(1, 16 * 16 * 4, 16)
    index = torch.tensor([[3, 900, 17]])
    found = net._query_rows(flat, index)
    torch.testing.assert_close(found, net.query(flat)[:, index[0]])
