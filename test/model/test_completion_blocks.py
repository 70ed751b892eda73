"""Self-attention between blocks of voxels: what it sees and what it adds."""

import torch

from cigocc_ros.model.completion import CigNet


def test_it_sees_block_means_and_adds_the_same_to_a_whole_block(tiny_with):
    config = tiny_with(self_stride=2)
    net = CigNet(config).eval()
    shape = config.query_shape
    voxels = torch.randn(2, 16 * 16 * 4, config.channels)
    seen = []
    net.self_layers[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        added = net._by_blocks(voxels, shape, net.spread) - voxels
    volume = voxels.transpose(1, 2).reshape(2, config.channels, *shape)
    means = torch.nn.functional.avg_pool3d(volume, 2).flatten(2).transpose(1, 2)
    torch.testing.assert_close(seen[0], means)
    blocks = added.transpose(1, 2).reshape(2, -1, 8, 2, 8, 2, 2, 2)
    spread = blocks.amax((3, 5, 7)) - blocks.amin((3, 5, 7))
    assert spread.abs().max() < 1e-5 and blocks.std() > 0.01
