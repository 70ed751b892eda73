"""From the image plane to the query volume.

`gather` (default) asks each output voxel what the depth at its pixel says about it: with the
logistic distribution (mean m, scale s) of the surface depth at pixel round(u), round(v), voxel
depth d and half edge h,

    hit      = CDF(d + h) - CDF(d - h)      the surface lies in the voxel
    free     = 1 - CDF(d + h)               the surface lies behind it
    occluded = CDF(d - h)                   the surface lies before it
    CDF(t)   = sigmoid((t - m) / s),        h = half the mean voxel edge,

all 0 outside the image. A query voxel holds 2 x 2 x 2 output voxels, so 24 evidence channels. Its
image feature is F_f sampled at its centre's pixel, times (w + floor), where w is the mean over the
8 of hit / tanh(h / 2 s) (hit over the greatest hit that this scale allows: distant, uncertain
surfaces keep a signal of order 1) and floor is a learned number. It needs no scatter, leaves no
gaps and is differentiable in depth.

At grazing angles the ray through a voxel's centre ends metres before or behind a surface that
crosses the voxel. `evidence_points` asks several points of it, spread over its height and width:
the surface lies in the voxel as far as one of them says so, hit is the largest, free, occluded and
in-image are means. On exact depth of four streets, thresholded hit and the voxels that hold a
visible point overlap by 0.22 with 1 point, 0.45 with 2, 0.57 with 4 and 0.75 with 8 at 0.4 m;
by 0.40, 0.51, 0.71 and 0.77 at 0.2 m.

`scatter` is eq. 2.5: the mean of F_f over the points in a voxel, log(1 + count) and the mean
offset in the voxel, from the points of all pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cigocc_ros.core.config import FEATURE_STRIDE, HEAD_FACTOR, ModelConfig
from cigocc_ros.core.grid import VoxelGrid
from cigocc_ros.model.branches import DepthMaps
from cigocc_ros.model.geometry import (
    Projection,
    VoxelProjector,
    constant,
    full_precision,
    normalized_pixel,
    pixel_rays,
)

SUBVOXELS = HEAD_FACTOR**3
FLOOR_INIT = 0.1
LATTICES = {1: (0,), 2: (0, 1), 4: (1, 3, 0, 2), 8: (0, 3, 6, 1, 4, 7, 2, 5)}
"""Of each number of points: the place along y of the one at the k-th place along z."""
_EVIDENCE = 3


def evidence_shifts(points: int) -> list[tuple[float, float, float]]:
    """Return where a voxel is asked, relative to its centre in edges: spread over y and z."""
    return [
        (0.0, (y + 0.5) / points - 0.5, (z + 0.5) / points - 0.5)
        for z, y in enumerate(LATTICES[points])
    ]


def channels_to_space(blocks: Tensor, factor: int = HEAD_FACTOR) -> Tensor:
    """Unfold cubes of `factor` f from channels: (B, C, f^3, X, Y, Z) to (B, C, fX, fY, fZ)."""
    b, c, _, x, y, z = blocks.shape
    f = factor
    volume = blocks.reshape(b, c, f, f, f, x, y, z).permute(0, 1, 5, 2, 6, 3, 7, 4)
    return volume.reshape(b, c, x * f, y * f, z * f)


class GatherLift(nn.Module):
    """Depth evidence and image features per query voxel (see the module's docstring)."""

    coordinates: Tensor

    def __init__(self, config: ModelConfig) -> None:
        """Take the network config."""
        super().__init__()
        self.image_size = config.image_size
        grid = config.evidence_grid
        self.half_edge_m = 0.5 * sum(grid.voxel_size_m) / 3
        self.projects = nn.ModuleList(
            VoxelProjector(grid, config.image_size, shift, HEAD_FACTOR)
            for shift in evidence_shifts(config.evidence_points)
        )
        self.floor = nn.Parameter(torch.tensor(FLOOR_INIT))
        width, self.reduce = config.channels, None
        if config.lift_channels is not None:  # linear, as sampling is: fewer channels to sample
            width = config.lift_channels
            self.reduce = nn.Conv2d(config.channels, width, 1)
        self.width = width
        self.out_channels = width + _EVIDENCE * SUBVOXELS + 1 + 3
        self.query_shape = config.query_shape

    def forward(
        self,
        fused: Tensor,
        depth: DepthMaps,
        geometry: Projection,
        pixel_from_velo: Tensor,
        beside: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Lift F_f (B, C, h, w); `geometry` is the query grid's projection.

        Returns the volume (B, out_channels, Qx, Qy, Qz), the mean hit (B, Qx, Qy, Qz) and, at the
        voxels, unweighted, 0 outside the image, what is given `beside` F_f (B, D, h, w).
        """
        if self.reduce is not None:
            fused = self.reduce(fused)
        with full_precision(fused):
            evidence, relative, inside = self._evidence(depth, pixel_from_velo)
            maps = fused if beside is None else torch.cat((fused, beside), dim=1)
            features = sample_at_voxels(maps.float(), geometry, self.image_size)
            seen = geometry.in_image.to(torch.float32)
            weight = (relative + self.floor) * seen
            skipped = None
            if beside is not None:
                features, skipped = features.split([self.width, beside.shape[1]], dim=1)
                skipped = skipped * seen.unsqueeze(1)
            position = _coordinates(self.query_shape, fused.device)
            position = position.expand(fused.shape[0], -1, -1, -1, -1)
            parts = (features * weight.unsqueeze(1), evidence, inside.unsqueeze(1), position)
            return torch.cat(parts, dim=1), evidence[:, :SUBVOXELS].mean(1), skipped

    def _evidence(
        self, depth: DepthMaps, pixel_from_velo: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return hit/free/occluded (B, 24, Q...), relative hit and in-image share (B, Q...)."""
        points = [self._at_points(depth, project(pixel_from_velo)) for project in self.projects]
        hit, free, occluded, relative, inside = points[0]
        for other in points[1:]:
            hit, relative = torch.maximum(hit, other[0]), torch.maximum(relative, other[3])
            free, occluded, inside = free + other[1], occluded + other[2], inside + other[4]
        if len(points) > 1:
            share = 1.0 / len(points)
            free, occluded, inside = free * share, occluded * share, inside * share
        folded = torch.stack((hit, free, occluded), dim=1).flatten(1, 2)
        return folded, relative.mean(1), inside.mean(1)

    def _at_points(
        self, depth: DepthMaps, voxels: Projection
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return hit, free, occluded, relative hit and in-image of one point of each voxel.

        Each (B, 8, Q...): first which of the 8 voxels of a query voxel, then which of those.
        """
        mean, scale = look_up(depth, voxels)
        position = (voxels.depth_m - mean) / scale
        half = self.half_edge_m / scale
        inside = voxels.in_image.to(torch.float32)
        before = torch.sigmoid(position - half) * inside
        until = torch.sigmoid(position + half) * inside
        hit = until - before
        return hit, inside - until, before, hit / torch.tanh(0.5 * half), inside


class ScatterLift(nn.Module):
    """Eq. 2.5, the reference: averages the points that fall into each query voxel."""

    def __init__(self, config: ModelConfig) -> None:
        """Take the network config."""
        super().__init__()
        self.image_size = config.image_size
        self.grid = config.query_grid
        self.out_channels = config.channels + 1 + 3 + 3

    def forward(
        self, fused: Tensor, depth: DepthMaps, image: Tensor, velo_from_pixel: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Lift F_f with the merged depth of all pixels; black (padding) pixels make no points.

        Returns the volume (B, out_channels, Qx, Qy, Qz) and hit (B, Qx, Qy, Qz): 1 where the
        voxel holds a point.
        """
        with full_precision(fused):
            rays = pixel_rays(velo_from_pixel, self.image_size, 1)
            points = rays * depth.mean_m.unsqueeze(1) + velo_from_pixel[:, :, 3, None, None]
            points = points.flatten(2).transpose(1, 2)
            valid = (image.amax(-1) > 0) & (depth.mean_m > 0)
            cells = F.interpolate(
                fused.float(), scale_factor=float(FEATURE_STRIDE), mode='nearest'
            )
            features = cells.flatten(2).transpose(1, 2)
            lifted, count = lift_points(features, points, valid.flatten(1), self.grid)
            position = _coordinates(self.grid.shape, fused.device)
            position = position.expand(fused.shape[0], -1, -1, -1, -1)
            return torch.cat((lifted, position), dim=1), (count > 0).to(torch.float32)


def lift_points(
    features: Tensor, points: Tensor, valid: Tensor, grid: VoxelGrid
) -> tuple[Tensor, Tensor]:
    """Average features (B, N, C) of valid points (B, N, 3) per voxel (eq. 2.5).

    Returns (B, C + 4, X, Y, Z): means, log(1 + count), mean offset in the voxel in units of its
    edge (-0.5..0.5); and count (B, X, Y, Z).
    """
    batch, _, channels = features.shape
    origin = constant(grid.origin_m, torch.float32, points.device)
    edge = constant(grid.voxel_size_m, torch.float32, points.device)
    shape = constant(grid.shape, torch.int64, points.device)
    scaled = (points - origin) / edge
    index = scaled.floor()
    inside = valid & ((index >= 0) & (index < shape)).all(-1)
    offset = scaled - index - 0.5
    cell = index.clamp(min=0).minimum(shape - 1).long()
    flat = (cell[..., 0] * grid.shape[1] + cell[..., 1]) * grid.shape[2] + cell[..., 2]
    flat = flat + torch.arange(batch, device=flat.device)[:, None] * grid.num_voxels
    weight = inside.to(features.dtype).unsqueeze(-1)
    rows = torch.cat((features, offset.to(features.dtype), torch.ones_like(weight)), -1) * weight
    total = features.new_zeros(batch * grid.num_voxels, channels + 4)
    total = total.index_add(0, flat.flatten(), rows.flatten(0, 1))
    count = total[:, -1:]
    mean = total[:, :-1] / count.clamp(min=1)
    volume = torch.cat((mean[:, :channels], torch.log1p(count), mean[:, channels:]), dim=1)
    volume = volume.reshape(batch, *grid.shape, channels + 4).permute(0, 4, 1, 2, 3)
    return volume, count.reshape(batch, *grid.shape)


def sample_at_voxels(
    features: Tensor, geometry: Projection, image_size: tuple[int, int]
) -> Tensor:
    """Sample (B, C, h, w) at the voxels' pixels, bilinear, 0 outside; return (B, C, X, Y, Z)."""
    grid = 2.0 * normalized_pixel(geometry.u_px, geometry.v_px, image_size) - 1.0
    sampled = F.grid_sample(features, grid.flatten(2, 3), mode='bilinear', align_corners=False)
    return sampled.reshape(features.shape[:2] + geometry.depth_m.shape[1:])


def look_up(depth: DepthMaps, voxels: Projection) -> tuple[Tensor, Tensor]:
    """Return depth mean and scale (B, X, Y, Z) at the voxels' nearest pixels, by plain gather."""
    _, height, width = depth.mean_m.shape
    column = voxels.u_px.detach().round().clamp(0, width - 1)
    row = voxels.v_px.detach().round().clamp(0, height - 1)
    table = torch.stack((depth.mean_m, depth.scale_m), dim=-1).reshape(-1, 2)
    found = table.index_select(0, flat_index(row, column, (height, width)))
    found = found.reshape(*voxels.depth_m.shape, 2)
    return found[..., 0], found[..., 1]


def flat_index(row: Tensor, column: Tensor, size: tuple[int, int]) -> Tensor:
    """Return where whole rows and columns (B, ...) lie in (B, height, width) raveled, (N,)."""
    height, width = size
    index = (row * width + column).long().flatten(1)
    index = index + torch.arange(len(index), device=index.device)[:, None] * (height * width)
    return index.flatten()


def _coordinates(shape: tuple[int, int, int], device: torch.device) -> Tensor:
    """Return the normalised voxel centres in -1..1, (1, 3, X, Y, Z)."""
    axes = [(2 * torch.arange(n, device=device) + 1) / n - 1.0 for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing='ij')).unsqueeze(0)
