"""Point map and fusion of the low and high levels on the image plane (eq. 2.4)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cigocc_ros.core.config import FEATURE_STRIDE, ModelConfig
from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID
from cigocc_ros.model.branches import DepthMaps
from cigocc_ros.model.deform_attention import deformable_sample, ring_bias
from cigocc_ros.model.geometry import constant, full_precision, pixel_rays

_SOURCES = 2


class PointEmbedding(nn.Module):
    """P_c = MLP(x / 51.2, y / 25.6, z / 6.4, D / 51.2, measured) of each cell's 3D point."""

    scale: Tensor

    def __init__(self, channels: int, image_size: tuple[int, int]) -> None:
        """Take the output width and the input (height, width)."""
        super().__init__()
        self.image_size = image_size
        x, y, z = SEMANTIC_KITTI_GRID.extent_m
        scale = torch.tensor([x, y / 2, z, x]).reshape(1, 4, 1, 1)
        self.register_buffer('scale', scale, persistent=False)
        self.mlp = nn.Sequential(
            nn.Conv2d(5, channels, 1), nn.ReLU(), nn.Conv2d(channels, channels, 1)
        )

    def forward(self, depth: DepthMaps, velo_from_pixel: Tensor) -> Tensor:
        """Embed the merged depth of the stride-4 cells; return (B, C, H/4, W/4)."""
        with full_precision(velo_from_pixel):
            rays = pixel_rays(velo_from_pixel, self.image_size, FEATURE_STRIDE)
            depth_m = depth.cell_m.unsqueeze(1)
            points = rays * depth_m + velo_from_pixel[:, :, 3, None, None]
            coordinates = torch.cat((points, depth_m), dim=1) / self.scale
            inputs = torch.cat((coordinates, depth.measured.unsqueeze(1)), dim=1)
        out: Tensor = self.mlp(inputs)
        return out


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of (B, C, h, w)."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each cell."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class DeformableFusion(nn.Module):
    """F_f = Norm(P + W_o sum over heads, sources {P, F} and points of A V(x + offset)).

    Offsets are shared by the two sources; the softmax runs over sources and points. With `both`
    the sum has F too, and one point of every head starts at the own cell: what a cell says of
    itself arrives sharp, whatever its neighbours say.
    """

    def __init__(self, channels: int, heads: int, points: int, both: bool = False) -> None:
        """Take the width, the numbers of heads and points, whether both sources pass by."""
        super().__init__()
        self.heads, self.points, self.both = heads, points, both
        self.values = nn.ModuleList(nn.Conv2d(channels, channels, 1) for _ in range(_SOURCES))
        width = heads * points
        self.offsets = nn.Conv2d(2 * channels, 2 * width, 3, padding=1)
        self.weights = nn.Conv2d(2 * channels, _SOURCES * width, 3, padding=1)
        self.output = nn.Conv2d(channels, channels, 1)
        self.norm = ChannelNorm(channels)
        ring = ring_bias(heads, points, 2)
        nearest = ring[:, :1] if both else torch.zeros_like(ring[:, :1])
        with torch.no_grad():
            for layer in (self.offsets, self.weights):
                for parameter in layer.parameters():
                    parameter.zero_()
            dict(self.offsets.named_parameters())['bias'].copy_((ring - nearest).flatten())

    def forward(self, points: Tensor, semantics: Tensor) -> Tensor:
        """Fuse P_c and F_i, both (B, C, h, w)."""
        both = torch.cat((points, semantics), dim=1)
        offsets, weights = self.offsets(both), self.weights(both)
        sources = (points, semantics)
        values = [layer(x) for layer, x in zip(self.values, sources, strict=True)]
        with full_precision(points):
            fused = self._sample([x.float() for x in values], offsets.float(), weights.float())
        passed = points + semantics if self.both else points
        out: Tensor = self.norm(passed + self.output(fused.to(points.dtype)))
        return out

    def _sample(self, values: list[Tensor], offsets: Tensor, weights: Tensor) -> Tensor:
        batch, channels, height, width = values[0].shape
        cells = height * width
        value = torch.cat([x.flatten(2) for x in values], dim=2).transpose(1, 2)
        value = value.reshape(batch, _SOURCES * cells, self.heads, -1)
        offsets = offsets.flatten(2).transpose(1, 2)
        offsets = offsets.reshape(batch, cells, self.heads, 1, self.points, 2)
        size = constant((width, height), torch.float32, value.device)
        locations = (
            _cell_centers(height, width, value.device)[:, None, None, None] + offsets / size
        )
        locations = locations.expand(-1, -1, -1, _SOURCES, -1, -1)
        weights = weights.flatten(2).transpose(1, 2).reshape(batch, cells, self.heads, -1)
        weights = weights.softmax(-1).reshape(batch, cells, self.heads, _SOURCES, self.points)
        out = deformable_sample(value, [(height, width)] * _SOURCES, locations, weights)
        return out.transpose(1, 2).reshape(batch, channels, height, width)


class ConcatFusion(nn.Module):
    """Ablation: F_f = Norm(P + Conv1x1([P; F]))."""

    def __init__(self, channels: int) -> None:
        """Take the width."""
        super().__init__()
        self.mix = nn.Conv2d(2 * channels, channels, 1)
        self.norm = ChannelNorm(channels)

    def forward(self, points: Tensor, semantics: Tensor) -> Tensor:
        """Fuse P_c and F_i, both (B, C, h, w)."""
        out: Tensor = self.norm(points + self.mix(torch.cat((points, semantics), dim=1)))
        return out


class MultiLevelFusion(nn.Module):
    """Embeds points and semantics and joins them by the config's `fusion`.

    `none` lifts the point embedding alone: stage 1 then sees no semantics.
    """

    def __init__(self, config: ModelConfig) -> None:
        """Take the network config."""
        super().__init__()
        channels = config.channels
        self.points = PointEmbedding(channels, config.image_size)
        self.semantics: nn.Module | None = None
        self.join: nn.Module | None = None
        if config.fusion == 'none':
            self.norm = ChannelNorm(channels)
            return
        self.semantics = nn.Conv2d(config.semantic_channels, channels, 1)
        if config.fusion == 'concat':
            self.join = ConcatFusion(channels)
        else:
            self.join = DeformableFusion(
                channels,
                config.num_heads,
                config.points_of_fusion,
                config.fusion_residual == 'both',
            )

    def forward(
        self,
        semantic: Tensor,
        depth: DepthMaps,
        velo_from_pixel: Tensor,
        prior_embedding: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Return F_f and F_i, both (B, C, H/4, W/4); without semantics there is no F_i.

        `prior_embedding` (B, C, H/4, W/4), of the classes given from outside, joins F_i.
        """
        points = self.points(depth, velo_from_pixel)
        if self.semantics is None or self.join is None:
            return self.norm(points), None
        embedded = self.semantics(semantic)
        if prior_embedding is not None:
            embedded = embedded + prior_embedding
        return self.join(points, embedded), embedded


def _cell_centers(height: int, width: int, device: torch.device) -> Tensor:
    """Return the normalised (x, y) of the cells in row order, (h * w, 2)."""
    x = (torch.arange(width, device=device) + 0.5) / width
    y = (torch.arange(height, device=device) + 0.5) / height
    grid_y, grid_x = torch.meshgrid(y, x, indexing='ij')
    return torch.stack((grid_x, grid_y), dim=-1).reshape(-1, 2)
