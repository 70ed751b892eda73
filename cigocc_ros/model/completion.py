"""Stage 2: update the proposed queries from the image, complete the volume, attend within it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from cigocc_ros.core.config import ModelConfig
from cigocc_ros.model.deform_attention import (
    DeformableCrossAttention,
    DeformableSelfAttention3d,
    FeedForward,
)
from cigocc_ros.model.proposals import put, take


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
        return (placed + (y[:, None] + z)).flatten(1, 3)


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
        self.attend = DeformableCrossAttention(channels, config.num_heads, config.num_points)
        self.dropout = nn.Dropout(config.dropout)
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.feed_forward = FeedForward(channels, config.ffn_channels, config.dropout)

    def forward(self, query: Tensor, features: Tensor, reference: Tensor, keep: Tensor) -> Tensor:
        """Update (B, K, C)."""
        update = self.attend(query, features, reference, keep)
        query = self.norm1(query + self.dropout(update))
        return self.norm2(query + self.feed_forward(query))


class SelfLayer(nn.Module):
    """3D deformable self-attention and feed-forward, post-norm; position joins the query only."""

    def __init__(self, config: ModelConfig) -> None:
        """Take the network config."""
        super().__init__()
        channels = config.channels
        self.attend = DeformableSelfAttention3d(
            channels, config.num_heads, config.num_points, config.query_shape
        )
        self.dropout = nn.Dropout(config.dropout)
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.feed_forward = FeedForward(channels, config.ffn_channels, config.dropout)

    def forward(self, voxels: Tensor, position: FactorisedPosition) -> Tensor:
        """Update (B, N, C)."""
        update = self.attend(position(voxels), voxels)
        voxels = self.norm1(voxels + self.dropout(update))
        return self.norm2(voxels + self.feed_forward(voxels))


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
        self.position = FactorisedPosition(config.query_shape, channels)
        self.self_layers = nn.ModuleList(SelfLayer(config) for _ in range(config.self_layers))

    def forward(
        self, hidden: Tensor, index: Tensor, features: Tensor, reference: Tensor, in_view: Tensor
    ) -> Tensor:
        """Return the completed volume (B, C, X, Y, Z).

        hidden: H (B, C, X, Y, Z); index (B, K) proposals; features (B, C, H/16, W/16);
        reference (B, X, Y, Z, 2) normalised pixels; in_view (B, X, Y, Z).
        """
        shape = hidden.shape
        flat = hidden.flatten(2).transpose(1, 2)
        queries = self.query_position(self.query(flat))
        query = take(queries, index)
        pixel = take(reference.flatten(1, 3), index)
        keep = take(in_view.flatten(1).unsqueeze(-1).to(pixel.dtype), index).squeeze(-1)
        for layer in self.cross:
            query = layer(query, features, pixel, keep)
        voxels = self.complete(flat, index, query)
        for layer in self.self_layers:
            voxels = layer(voxels, self.position)
        return voxels.transpose(1, 2).reshape(shape)
