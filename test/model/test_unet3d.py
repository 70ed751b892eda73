"""Residual blocks of the 3D UNet, and how far they reach."""

import pytest
import torch

from cigocc_ros.core.config import load_model_config
from cigocc_ros.model.unet3d import ResidualBlock3d, UNet3d


def test_a_residual_block_adds_to_its_input():
    block = ResidualBlock3d(16)
    x = torch.randn(1, 16, 4, 4, 4)
    with torch.no_grad():
        block.block[1].weight.zero_()
        block.block[1].bias.fill_(0.5)
        torch.testing.assert_close(block(x), x + 0.5)


@pytest.mark.parametrize(('name', 'least'), [('mid', 32)])
def test_a_voxel_hears_of_half_the_grid(name, least):
    """Group norms reach everywhere: without them an input changes outputs `least` voxels away."""
    config = load_model_config(name)
    unet = UNet3d(4, config.unet_widths, 4, config.unet_blocks).eval()
    for module in unet.modules():
        for child, part in module.named_children():
            if isinstance(part, torch.nn.GroupNorm):
                setattr(module, child, torch.nn.Identity())
    volume = torch.randn(1, 4, 64, 8, 8, requires_grad=True)
    unet(volume)[0, :, 0].sum().backward()
    reached = volume.grad.abs().amax((0, 1, 3, 4)).nonzero().max().item()
    assert reached >= least
