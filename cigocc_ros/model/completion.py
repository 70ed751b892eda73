"""Stage 2: update the proposed queries from the image, complete the volume, attend within it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cigocc_ros.core.config import ModelConfig
from cigocc_ros.model.deform_attention import (
    DeformableCrossAttention,
    DeformableSelfAttention3d,
    FeedForward,
    QueryDepth,
    Shape3d,
)
from cigocc_ros.model.proposals import put, rows_at, take


class FactorisedPosition(nn.Module):
    """Learned e_x + e_y + e_z per voxel (choice D8), added without a table of all voxels.

    An exporter folds a sum of parameters: 134 MB of `full` twice, read for every frame.
    """

    def __init__(self, shape: tuple[int, int, int], channels: int) -> None:
        """Take the volume's shape and the width."""
        super().__init__()
        self.shape = shape
        self.tables = nn.ParameterList(
            nn.Parameter(torch.randn(n, channels) * 0.02) for n in shape
        )

    def forward(self, voxels: Tensor) -> Tensor:
        """Add the embedding to all voxels in C order, (B, N, C)."""
        x, y, z = self.tables
        placed = voxels.unflatten(1, self.shape) + x[:, None, None]
        out: Tensor = (placed + (y[:, None] + z)).flatten(1, 3)
        return out

    def at(self, rows: Tensor, index: Tensor) -> Tensor:
        """Add the embedding to rows (B, K, C) of the voxels `index` (B, K)."""
        x, y, z = self.tables
        across = (y[:, None] + z).flatten(0, 1)
        column = index // across.shape[0]
        placed = rows + x.index_select(0, column.flatten()).view_as(rows)
        level = index - column * across.shape[0]
        out: Tensor = placed + across.index_select(0, level.flatten()).view_as(rows)
        return out


class StaticQueries(nn.Module):
    """Ablation: one learned vector per voxel that the scene does not change (VoxFormer)."""

    def __init__(self, shape: tuple[int, int, int], channels: int) -> None:
        """Take the volume's shape and the width."""
        super().__init__()
        self.table = nn.Parameter(torch.randn(math.prod(shape), channels))

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the table for a batch like H (B, N, C), of which nothing else is used."""
        return self.table.to(hidden.dtype).expand_as(hidden)


class CrossLayer(nn.Module):
    """Deformable cross-attention and feed-forward, post-norm."""

    def __init__(self, config: ModelConfig) -> None:
        """Take the network config."""
        super().__init__()
        channels = config.channels
        self.attend = DeformableCrossAttention(
            channels,
            config.num_heads,
            config.points_of_cross,
            len(config.cross_levels),
            config.cross_depth,
        )
        self.dropout = nn.Dropout(config.dropout)
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.feed_forward = FeedForward(channels, config.ffn_channels, config.dropout)

    def forward(
        self,
        query: Tensor,
        features: Sequence[Tensor],
        reference: Tensor,
        keep: Tensor,
        depth: QueryDepth | None = None,
    ) -> Tensor:
        """Update (B, K, C)."""
        update = self.attend(query, features, reference, keep, depth)
        query = self.norm1(query + self.dropout(update))
        out: Tensor = self.norm2(query + self.feed_forward(query))
        return out


class SelfLayer(nn.Module):
    """3D deformable self-attention and feed-forward, post-norm; position joins the query only."""

    def __init__(self, config: ModelConfig, shape: Shape3d) -> None:
        """Take the network config and the volume's shape."""
        super().__init__()
        channels = config.channels
        self.attend = DeformableSelfAttention3d(
            channels, config.num_heads, config.num_points, shape
        )
        self.dropout = nn.Dropout(config.dropout)
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.feed_forward = FeedForward(channels, config.ffn_channels, config.dropout)

    def forward(self, voxels: Tensor, position: FactorisedPosition) -> Tensor:
        """Update (B, N, C)."""
        update = self.attend(position(voxels), voxels)
        voxels = self.norm1(voxels + self.dropout(update))
        out: Tensor = self.norm2(voxels + self.feed_forward(voxels))
        return out


class Completion(nn.Module):
    """Joins updated queries with the raw volume (eq. 2.9).

    complement: q at the proposals, F_raw elsewhere. add: q + F_raw at the proposals, F_raw
    elsewhere. mask_token: q at the proposals, one learned vector elsewhere (VoxFormer).
    """

    def __init__(self, config: ModelConfig) -> None:
        """Take the network config."""
        super().__init__()
        self.mode = config.completion
        if self.mode == 'mask_token':
            self.mask_token = nn.Parameter(torch.randn(1, 1, config.channels) * 0.02)
        else:
            self.raw = nn.Linear(config.channels, config.channels)

    def forward(self, hidden: Tensor, index: Tensor, query: Tensor) -> Tensor:
        """Complete from H (B, N, C), proposals (B, K) and updated queries (B, K, C)."""
        if self.mode == 'mask_token':
            background = self.mask_token.to(query.dtype).expand(
                hidden.shape[0], hidden.shape[1], -1
            )
            return put(background, index, query)
        raw = self.raw(hidden).to(query.dtype)
        if self.mode == 'add':
            return put(raw, index, query + take(raw, index))
        return put(raw, index, query)


class CigNet(nn.Module):
    """Complementary information guided voxel generation: DCA, completion, DSA."""

    def __init__(self, config: ModelConfig) -> None:
        """Take the network config."""
        super().__init__()
        channels = config.channels
        self.query: nn.Module
        if config.queries == 'static':
            self.query = StaticQueries(config.query_shape, channels)
        else:
            self.query = nn.Linear(channels, channels)
        self.query_position = FactorisedPosition(config.query_shape, channels)
        self.cross = nn.ModuleList(CrossLayer(config) for _ in range(config.cross_layers))
        self.complete = Completion(config)
        x, y, z = (n // config.self_stride for n in config.query_shape)
        self.position = FactorisedPosition((x, y, z), channels)
        self.self_layers = nn.ModuleList(
            SelfLayer(config, (x, y, z)) for _ in range(config.self_layers)
        )
        self.spread = nn.Linear(channels, channels) if config.self_stride > 1 else None
        self.stride = config.self_stride

    def forward(
        self,
        hidden: Tensor,
        index: Tensor,
        features: Sequence[Tensor],
        reference: Tensor,
        in_view: Tensor,
        depth: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Return the completed volume (B, C, X, Y, Z).

        hidden: H (B, C, X, Y, Z); index (B, K) proposals; features (B, C, H/s, W/s) of each level;
        reference (B, X, Y, Z, 2) normalised pixels; in_view (B, X, Y, Z); depth, where attention
        is aware of it: metres of the voxels (B, X, Y, Z) and log mean and scale (B, 2, h, w) of
        the surface.
        """
        shape = hidden.shape
        flat = hidden.flatten(2).transpose(1, 2)
        # What free slots hold is nobody's: it is dropped when the queries are put back.
        places = index.clamp(max=flat.shape[1] - 1)
        query = self.query_position.at(self._query_rows(flat, places), places)
        pixel = take(reference.flatten(1, 3), index)
        keep = take(in_view.flatten(1).unsqueeze(-1).to(pixel.dtype), index).squeeze(-1)
        compared = None
        if depth is not None:
            metres = take(depth[0].flatten(1).unsqueeze(-1), index).squeeze(-1)
            compared = QueryDepth(metres, depth[1])
        for layer in self.cross:
            query = layer(query, features, pixel, keep, compared)
        voxels: Tensor = self.complete(flat, index, query)
        if self.spread is not None:
            voxels = self._by_blocks(voxels, (shape[2], shape[3], shape[4]), self.spread)
            return voxels.transpose(1, 2).reshape(shape)
        for layer in self.self_layers:
            voxels = layer(voxels, self.position)
        return voxels.transpose(1, 2).reshape(shape)

    def _query_rows(self, flat: Tensor, places: Tensor) -> Tensor:
        """Return the queries (B, K, C) of voxels: a layer of their rows of H, or learned ones."""
        if isinstance(self.query, StaticQueries):
            return rows_at(self.query(flat), places)
        rows: Tensor = self.query(rows_at(flat, places))
        return rows

    def _by_blocks(self, voxels: Tensor, shape: Shape3d, spread: nn.Linear) -> Tensor:
        """Add to voxels (B, N, C) what self-attention between the means of blocks says of them."""
        (x, y, z), stride = shape, self.stride
        batch, count, channels = voxels.shape
        means = voxels.reshape(batch, x * y, z // stride, stride, channels).mean(3)
        means = means.reshape(batch, x, y // stride, stride, -1).mean(3)
        means = means.reshape(batch, x // stride, stride, -1).mean(2)
        blocks = means.reshape(batch, -1, channels)
        for layer in self.self_layers:
            blocks = layer(blocks, self.position)
        added: Tensor = spread(blocks)
        split = (batch, x // stride, stride, y // stride, stride, z // stride, stride, channels)
        added = added.reshape(batch, x // stride, 1, y // stride, 1, z // stride, 1, channels)
        spread_out: Tensor = voxels.reshape(split) + added
        return spread_out.reshape(batch, count, channels)
