"""A network of the model's interface in twenty lines, and the real one, exported once."""

from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from fixtures_tiny_model import TINY_CONFIG
from torch import nn


class StubOutput(NamedTuple):
    logits: torch.Tensor


class StubNetwork(nn.Module):
    """Sample image features and the depth prior at projected voxel centres; random weights."""

    def __init__(self, config=TINY_CONFIG):
        super().__init__()
        torch.manual_seed(11)
        self.shape = config.output_shape
        self.size = config.image_size
        centers = torch.from_numpy(config.output_grid.centers_m()).float().reshape(-1, 3)
        self.register_buffer('centers', centers)
        self.features = nn.Sequential(nn.Conv2d(4, 16, 5, padding=2), nn.ReLU())
        self.head = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 20))

    def forward(self, image, depth_prior, pixel_from_velo, velo_from_pixel):
        colour = image.to(torch.float32).permute(0, 3, 1, 2) / 255.0
        features = self.features(torch.cat([colour, depth_prior[:, None] / 50.0], dim=1))
        projected = self.centers @ pixel_from_velo[0, :, :3].T + pixel_from_velo[0, :, 3]
        depth = projected[:, 2:].clamp_min(1e-3)
        height, width = self.size
        scale = torch.tensor([2.0 / width, 2.0 / height])
        uv = (projected[:, :2] / depth + 0.5) * scale - 1.0
        sampled = F.grid_sample(features, uv[None, None], align_corners=False)[0, :, 0].T
        origin = velo_from_pixel[0, :, 3].expand(len(depth), 3)
        points = torch.cat([sampled, self.centers[:, :1] / 50.0, origin], dim=1)
        return StubOutput(self.head(points).T.reshape(1, 20, *self.shape))


@pytest.fixture(scope='session')
def stub_network():
    return StubNetwork().eval()
