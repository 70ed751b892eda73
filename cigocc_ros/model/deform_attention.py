"""Deformable attention in plain operators: 2D multi-source sampling, cross and self layers.

Formula (Deformable DETR, eq. 2.8 of the design notes): per head m,
out_m(q) = sum over sources l and points k of A[m,l,k] * V_m,l(r_q + offset[m,l,k]).
Sampling is bilinear, zero outside, align_corners False, and always float32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cigocc_ros.core.onnx_file import SAMPLE_DOMAIN, SAMPLE_OP
from cigocc_ros.model.geometry import constant, full_precision

Shape2d = tuple[int, int]
Shape3d = tuple[int, int, int]

DEPTH_FIT_INIT = (0.0, 0.7)
"""Logit of the floor (0.5) and log factor of the scale (2) of depth-aware attention at first."""
MAX_SAMPLES = 2**27
"""Numbers that one sampling call may materialise; self-attention is chunked to stay below."""


def deformable_sample(
    value: Tensor,
    spatial_shapes: Tensor | Sequence[Shape2d],
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """Sample `value` (B, S, M, D) and sum with weights; return (B, Q, M * D).

    spatial_shapes (L, 2): (height, width) of the L maps that S = sum(h * w) concatenates.
    sampling_locations (B, Q, M, L, P, 2): (x, y) in [0, 1] over the map area.
    attention_weights (B, Q, M, L, P).
    """
    shapes = [(int(height), int(width)) for height, width in spatial_shapes]
    if torch.onnx.is_in_onnx_export():
        return _onnx_sample(value, shapes, sampling_locations, attention_weights)
    batch, _, heads, depth = value.shape
    queries, points = sampling_locations.shape[1], sampling_locations.shape[4]
    grids = (2.0 * sampling_locations - 1.0).permute(0, 2, 3, 1, 4, 5)  # (B, M, L, Q, P, 2)
    weights = attention_weights.permute(0, 2, 3, 1, 4)  # (B, M, L, Q, P)
    maps = value.permute(0, 2, 3, 1).reshape(batch * heads, depth, -1)
    total: Tensor | None = None
    start = 0
    for level, (height, width) in enumerate(shapes):
        image = maps[:, :, start : start + height * width]
        image = image.reshape(batch * heads, depth, height, width)
        grid = grids[:, :, level].reshape(batch * heads, queries, points, 2)
        weight = weights[:, :, level].reshape(batch * heads, 1, queries, points)
        sampled = F.grid_sample(image, grid, mode='bilinear', align_corners=False)
        part = (sampled * weight).sum(-1)  # (B * M, D, Q)
        total = part if total is None else total + part
        start += height * width
    if total is None:
        raise ValueError('deformable_sample needs at least one map, found no spatial shapes')
    return total.reshape(batch, heads * depth, queries).transpose(1, 2)


def _onnx_sample(
    value: Tensor, shapes: list[Shape2d], locations: Tensor, weights: Tensor
) -> Tensor:
    """Return what `deformable_sample` does, as one ONNX operator per map."""
    batch, _, heads, depth = value.shape
    parts = []
    start = 0
    for level, (height, width) in enumerate(shapes):
        cells = height * width
        inputs = (
            value[:, start : start + cells],
            torch.tensor([[height, width]], dtype=torch.int32),
            torch.zeros(1, dtype=torch.int32),
            locations[:, :, :, level : level + 1],
            weights[:, :, :, level : level + 1],
        )
        shape = (batch, locations.shape[1], heads, depth)
        name = f'{SAMPLE_DOMAIN}::{SAMPLE_OP}'
        parts.append(
            torch.onnx.ops.symbolic(name, inputs, dtype=value.dtype, shape=shape, version=1)
        )
        start += cells
    return sum(parts[1:], parts[0]).flatten(2)


def stack_slices(volume: Tensor) -> Tensor:
    """Lay the Z slices of (B, C, X, Y, Z) under each other: (B, Z * (Y + 1) * X, C).

    One zero row separates the slices, so that sampling near a border cannot reach the next slice.
    """
    slices = F.pad(volume.permute(0, 4, 3, 2, 1), (0, 0, 0, 0, 0, 1))  # (B, Z, Y + 1, X, C)
    return slices.reshape(volume.shape[0], -1, volume.shape[1])


def slice_locations(
    locations: Tensor, weights: Tensor, shape: Shape3d
) -> tuple[Tensor, Tensor, Shape2d]:
    """Turn trilinear sampling into bilinear sampling of `stack_slices`, exactly.

    locations (B, Q, M, P, 3): (x, y, z) in [0, 1] over the volume; weights (B, Q, M, P). Returns
    2D locations (B, Q, M, 1, 2 P, 2), weights (B, Q, M, 1, 2 P) and the (height, width) of the
    image. Slices run along Z, the short axis: fewer rows keep the float32 coordinate exact.
    """
    nx, ny, nz = shape
    x, y, z = locations.unbind(-1)
    row = (y * ny - 0.5).clamp(-1.0, float(ny))
    depth = z * nz - 0.5
    lower = depth.floor()
    upper_share = depth - lower
    parts = []
    for index, share in ((lower, 1.0 - upper_share), (lower + 1.0, upper_share)):
        inside = ((index >= 0) & (index <= nz - 1)).to(weights.dtype)
        stacked = index.clamp(0.0, nz - 1.0) * (ny + 1) + row
        uv = torch.stack((x, (stacked + 0.5) / (nz * (ny + 1))), dim=-1)
        parts.append((uv, weights * share * inside))
    uv = torch.cat((parts[0][0], parts[1][0]), dim=3)
    both = torch.cat((parts[0][1], parts[1][1]), dim=3)
    return uv.unsqueeze(3), both.unsqueeze(3), (nz * (ny + 1), nx)


def ring_bias(heads: int, points: int, dims: int) -> Tensor:
    """Return initial offsets (heads, points, dims): head m looks along its own direction, point k
    at distance k + 1 feature cells; the third axis alternates between level and up or down.
    """
    angle = torch.arange(heads) * (2.0 * math.pi / heads)
    axes = [angle.cos(), angle.sin()]
    if dims == 3:
        axes.append((torch.arange(heads) % 3 - 1.0) * 0.5)
    direction = torch.stack(axes, dim=-1)
    direction = direction / direction.abs().amax(-1, keepdim=True)
    return direction[:, None, :] * torch.arange(1.0, points + 1.0)[None, :, None]


class _Attention(nn.Module):
    """Projections that both attention layers share; offsets are in cells of the sampled map."""

    def __init__(self, channels: int, heads: int, points: int, dims: int, levels: int = 1) -> None:
        super().__init__()
        self.heads, self.points, self.dims = heads, levels * points, dims
        self.levels = levels
        points = self.points
        self.value = nn.Linear(channels, channels)
        self.offsets = nn.Linear(channels, heads * points * dims)
        self.weights = nn.Linear(channels, heads * points)
        self.output = nn.Linear(channels, channels)
        for layer in (self.value, self.output):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        for layer in (self.offsets, self.weights):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        with torch.no_grad():
            ring = ring_bias(heads, points // levels, dims)
            self.offsets.bias.copy_(ring.repeat(1, levels, 1).flatten())

    def plan(self, query: Tensor, cells: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Return normalised offsets (B, Q, M, P, dims) and softmax weights (B, Q, M, P)."""
        batch, queries, _ = query.shape
        offsets = self.offsets(query).float()
        offsets = offsets.reshape(batch, queries, self.heads, self.points, self.dims)
        weights = self.weights(query).float().reshape(batch, queries, self.heads, self.points)
        size = constant(cells, torch.float32, query.device)
        return offsets / size, weights.softmax(-1)


class QueryDepth(NamedTuple):
    """What depth-aware attention compares: metres of the queries, and of the image's cells."""

    query_m: Tensor
    """(B, Q) along the optical axis."""
    surface: Tensor
    """(B, 2, h, w) log mean and log scale of the surface, log metres."""


class DeformableCrossAttention(_Attention):
    """Voxel queries look around their own pixel in 2D feature maps, one or several levels.

    Aware of depth, the weight of a sample is multiplied by f + (1 - f) m, where m in 0..1 says how
    well the surface there fits the depth of the query, 4 s(z) (1 - s(z)) with the logistic s and z
    the difference in scales of the surface, widened by a learned factor, and f is a learned floor:
    a hidden voxel does not read its occluder (DFA3D does so with a depth histogram).
    """

    def __init__(
        self, channels: int, heads: int, points: int, levels: int = 1, depth: bool = False
    ) -> None:
        """Take the width, the numbers of heads and of points per head and level, of levels."""
        super().__init__(channels, heads, points, dims=2, levels=levels)
        self.fit = nn.Parameter(torch.tensor(DEPTH_FIT_INIT)) if depth else None

    def forward(
        self,
        query: Tensor,
        features: Sequence[Tensor],
        reference: Tensor,
        keep: Tensor,
        depth: QueryDepth | None = None,
    ) -> Tensor:
        """Attend from (B, Q, C) at `reference` (B, Q, 2) in [0, 1] to maps (B, C, h, w).

        `keep` (B, Q) is 0 for queries outside the image: they sample nothing.
        """
        shapes = [(int(level.shape[-2]), int(level.shape[-1])) for level in features]
        flat = [level.flatten(2) for level in features]
        joined = flat[0] if len(flat) == 1 else torch.cat(flat, dim=2)
        value = self.value(joined.transpose(1, 2))
        value = value.reshape(*value.shape[:2], self.heads, -1)
        offsets, weights = self._plan_levels(query, shapes)
        with full_precision(value):
            locations = reference[:, :, None, None, None, :] + offsets
            if self.fit is not None and depth is not None:
                weights = weights * self._fitting(locations, depth)
            sampled = deformable_sample(value.float(), shapes, locations, weights)
        out: Tensor = self.output((sampled * keep.unsqueeze(-1)).to(query.dtype))
        return out

    def _plan_levels(self, query: Tensor, shapes: list[Shape2d]) -> tuple[Tensor, Tensor]:
        """Return offsets (B, Q, M, L, P, 2) and weights (B, Q, M, L, P)."""
        if len(shapes) == 1:
            ((height, width),) = shapes
            offsets, weights = self.plan(query, (width, height))
            return offsets.unsqueeze(3), weights.unsqueeze(3)
        batch, queries, _ = query.shape
        split = (batch, queries, self.heads, self.levels, self.points // self.levels)
        sizes = [float(n) for height, width in shapes for n in (width, height)]
        size = constant(sizes, torch.float32, query.device).reshape(1, self.levels, 1, 2)
        # Dividing the few weights, not the many offsets, which are of one size a level.
        size = size.expand(*split[2:], 2).reshape(-1)
        layer = self.offsets
        offsets = F.linear(query, layer.weight / size.unsqueeze(1), layer.bias / size).float()
        weights = self.weights(query).float().reshape(batch, queries, self.heads, -1).softmax(-1)
        return offsets.reshape(*split, 2), weights.reshape(split)

    def _fitting(self, locations: Tensor, depth: QueryDepth) -> Tensor:
        """Return how much each sample counts, (B, Q, M, L, P) in 0..1."""
        if self.fit is None:
            raise ValueError('attention that is not aware of depth cannot compare it')
        batch, queries = locations.shape[:2]
        grid = (2.0 * locations - 1.0).reshape(batch, queries, -1, 2)
        found = F.grid_sample(depth.surface, grid, mode='bilinear', align_corners=False)
        mean, scale = found.unbind(1)  # (B, Q, M * L * P)
        floor, widening = torch.sigmoid(self.fit[0]), self.fit[1]
        away = (depth.query_m.unsqueeze(-1) - mean.exp()) * (-scale - widening).exp()
        likely = torch.sigmoid(away)
        fits = 4.0 * likely * (1.0 - likely)
        return (floor + (1.0 - floor) * fits).reshape(locations.shape[:-1])


class DeformableSelfAttention3d(_Attention):
    """Every voxel looks around itself in the volume (trilinear sampling on stacked slices)."""

    reference_x: Tensor
    reference_y: Tensor
    reference_z: Tensor

    def __init__(self, channels: int, heads: int, points: int, shape: Shape3d) -> None:
        """Take the width, the numbers of heads and of points per head, and the volume's shape."""
        super().__init__(channels, heads, points, dims=3)
        self.shape = shape
        self.chunks = math.ceil(2 * points * channels * math.prod(shape) / MAX_SAMPLES)
        for axis, name in enumerate(('x', 'y', 'z')):
            centers = (torch.arange(shape[axis]) + 0.5) / shape[axis]
            self.register_buffer(f'reference_{name}', centers, persistent=False)

    def forward(self, query: Tensor, voxels: Tensor) -> Tensor:
        """Attend from (B, N, C) to the volume `voxels` (B, N, C), N = X * Y * Z in C order."""
        batch, _, channels = voxels.shape
        volume = self.value(voxels).transpose(1, 2).reshape(batch, channels, *self.shape)
        value = stack_slices(volume)
        value = value.reshape(batch, value.shape[1], self.heads, -1)
        reference = self._reference().to(query.device)
        parts = []
        pairs = zip(query.chunk(self.chunks, 1), reference.chunk(self.chunks, 0), strict=True)
        for part, centers in pairs:
            if self.chunks > 1 and self.training:
                parts.append(checkpoint(self._attend, part, centers, value, use_reentrant=False))
            else:
                parts.append(self._attend(part, centers, value))
        out: Tensor = self.output(torch.cat(parts, dim=1) if len(parts) > 1 else parts[0])
        return out

    def _reference(self) -> Tensor:
        """Return the normalised voxel centres, (N, 3)."""
        axes = torch.meshgrid(self.reference_x, self.reference_y, self.reference_z, indexing='ij')
        return torch.stack(axes, dim=-1).reshape(-1, 3)

    def _attend(self, query: Tensor, reference: Tensor, value: Tensor) -> Tensor:
        offsets, weights = self.plan(query, self.shape)
        with full_precision(value):
            locations = reference[None, :, None, None, :] + offsets
            uv, both, shape = slice_locations(locations, weights, self.shape)
            return deformable_sample(value.float(), [shape], uv, both).to(query.dtype)


class FeedForward(nn.Module):
    """Two linear layers with ReLU and dropout."""

    def __init__(self, channels: int, hidden: int, dropout: float) -> None:
        """Take the outer and inner widths."""
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(channels, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, channels),
            nn.Dropout(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., C) to (..., C)."""
        out: Tensor = self.net(x)
        return out
