"""Which voxels become queries: a fixed number of slots, filled without data-dependent shapes."""

from __future__ import annotations

import torch
from torch import Tensor

HIT_THRESHOLD = 0.5


def propose(
    stage1_logits: Tensor, hit: Tensor, in_view: Tensor, threshold: float, slots: int
) -> Tensor:
    """Return the flat indices of the proposed voxels, (B, slots) int64, free slots = N.

    Rule D7: (1 - p_empty > threshold or hit > 0.5) and in view; where a sample proposes nothing,
    all its voxels in view. stage1_logits (B, 20, X, Y, Z); hit, in_view (B, X, Y, Z). The first
    `slots` proposals in C order (nearest x first) are kept.
    """
    occupied = 1.0 - stage1_logits.detach().float().softmax(1)[:, 0]
    return propose_occupied(occupied > threshold, hit, in_view, slots)


def propose_occupied(occupied: Tensor, hit: Tensor, in_view: Tensor, slots: int) -> Tensor:
    """Return what `propose` does, given which voxels stage 1 says are occupied (B, X, Y, Z)."""
    wanted = occupied | (hit.detach() > HIT_THRESHOLD)
    mask = (wanted & in_view).flatten(1)
    any_proposed = mask.to(torch.int32).amax(1, keepdim=True) > 0
    # Spelt with logic: ONNX Runtime has no Where for booleans.
    return compact(mask | (in_view.flatten(1) & ~any_proposed), slots)


def compact(mask: Tensor, slots: int) -> Tensor:
    """Return the indices of the first `slots` true entries of (B, N) in order, padded with N.

    One cumsum and one plain scatter: TensorRT knows neither NonZero with static shapes nor TopK
    beyond 3840. Entries without a slot are written to column N, which the slice cuts off.
    """
    batch, count = mask.shape
    rank = mask.to(torch.int32).cumsum(1) - 1
    slot = torch.where(mask & (rank < slots), rank, count).long()
    source = torch.arange(count, device=mask.device).expand(batch, -1)
    table = torch.full((batch, count + 1), count, dtype=torch.int64, device=mask.device)
    return table.scatter(1, slot, source)[:, :slots]


def flat_rows(index: Tensor, rows: int) -> Tensor:
    """Return indices (B, K) into B tables of `rows` rows laid end to end, (B * K,)."""
    start = torch.arange(index.shape[0], device=index.device) * rows
    return (index + start[:, None]).flatten()


def rows_at(table: Tensor, index: Tensor) -> Tensor:
    """Return rows `index` (B, K), all below N, of `table` (B, N, C): (B, K, C)."""
    batch, rows, channels = table.shape
    taken = table.reshape(-1, channels).index_select(0, flat_rows(index, rows))
    return taken.reshape(batch, -1, channels)


def take(table: Tensor, index: Tensor) -> Tensor:
    """Return rows `index` (B, K) of `table` (B, N, C), index N giving zeros: (B, K, C)."""
    return rows_at(torch.cat((table, torch.zeros_like(table[:, :1])), dim=1), index)


def put(table: Tensor, index: Tensor, values: Tensor) -> Tensor:
    """Return `table` (B, N, C) with rows `index` (B, K) set to `values`; index N is dropped."""
    padded = torch.cat((table, torch.zeros_like(table[:, :1])), dim=1)
    batch, rows, channels = padded.shape
    target = (flat_rows(index, rows),)
    flat = padded.reshape(-1, channels).index_put(target, values.reshape(-1, channels))
    return flat.reshape(batch, rows, channels)[:, : rows - 1]
