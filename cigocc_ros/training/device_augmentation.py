"""Vary a batch of samples where it lies, without waiting for the device (torch).

What is done is what `augmentation` does in numpy, sample by sample; `variations` says which and
how much. Nothing here asks the device for a number.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cigocc_ros.training.augmentation import EDGE_BLOCK, MOVED_SHARE
from cigocc_ros.training.variations import Columns, Variation

GREY = (0.299, 0.587, 0.114)


def jitter_images(images: Tensor, colors: Tensor) -> Tensor:
    """Scale brightness, contrast and saturation, (B, 3), of (B, H, W, 3) uint8."""
    brightness, contrast, saturation = colors[:, :, None, None, None].unbind(1)
    mean = images[:, ::8, ::8].float().mean((1, 2, 3), keepdim=True)
    changed = ((images * brightness - mean) * contrast + mean).clamp(0, 255).floor()
    red, green, blue = changed.split(1, dim=-1)
    grey = (GREY[0] * red + GREY[1] * green + GREY[2] * blue).round()
    mixed: Tensor = changed * saturation + grey * (1 - saturation)
    return mixed.round().clamp(0, 255).to(torch.uint8)


def degrade_depths(depth_m: Tensor, numbers: Tensor, variations: Sequence[Variation]) -> Tensor:
    """Give measured depth among (B, H, W) metres noise, holes and a density; others stay."""
    noisy = [one.degrades_depth for one in variations]
    if not any(noisy):
        return depth_m
    noise, chance = torch.zeros_like(depth_m), torch.zeros_like(depth_m)
    for index, one in enumerate(variations):
        if noisy[index]:
            generator = torch.Generator(depth_m.device).manual_seed(one.noise_seed)
            noise[index].normal_(generator=generator)
            chance[index].uniform_(generator=generator)
    sigma, density = (
        numbers[:, column, None, None] for column in (Columns.DEPTH_SIGMA, Columns.DEPTH_DENSITY)
    )
    lost = (chance > density) | in_holes(numbers[:, Columns.DEPTH_HOLES], depth_m)
    return torch.where(lost, 0.0, depth_m * torch.exp(sigma * noise))


def degrade_class_cells(cells: Tensor, numbers: Tensor, variations: Sequence[Variation]) -> Tensor:
    """Give classes from outside (B, h, w) uint8 holes, moved edges and wrong cells, or none."""
    batch, height, width = cells.shape
    kept = numbers[:, Columns.CLASS_FACTOR, None, None] > 0
    if not any(one.class_factor for one in variations):
        return torch.zeros_like(cells)
    blocks = cells.new_zeros(
        (batch, height // EDGE_BLOCK + 1, width // EDGE_BLOCK + 1), dtype=torch.float32
    )
    chance, other = (
        cells.new_zeros(cells.shape, dtype=torch.float32),
        torch.zeros_like(cells, dtype=torch.int64),
    )
    for index, one in enumerate(variations):
        if one.class_factor:
            # Another sequence of numbers than that of the depth of the same sample.
            generator = torch.Generator(cells.device).manual_seed(one.noise_seed + 1)
            blocks[index].uniform_(generator=generator)
            chance[index].uniform_(generator=generator)
            other[index].random_(height * width, generator=generator)
    holed = cells.masked_fill(in_holes(numbers[:, Columns.CLASS_HOLES], cells), 0)
    moved = (blocks < MOVED_SHARE).repeat_interleave(EDGE_BLOCK, 1)
    moved = moved.repeat_interleave(EDGE_BLOCK, 2)[:, :height, :width]
    edged = torch.where(moved, _rolled(holed, numbers[:, Columns.CLASS_SHIFT]), holed)
    wrong = chance < numbers[:, Columns.CLASS_WRONG, None, None]
    strange = edged.flatten(1).gather(1, other.flatten(1)).reshape(edged.shape)
    return torch.where(kept, torch.where(wrong, strange, edged), 0)


def in_holes(holes: Tensor, like: Tensor) -> Tensor:
    """Say which pixels of (B, H, W) lie in one of (B, 4 n) top, left, bottom, right."""
    top, left, bottom, right = holes.reshape(len(holes), -1, 4).unbind(-1)
    row = torch.arange(like.shape[1], device=like.device)
    column = torch.arange(like.shape[2], device=like.device)
    rows = (row >= top[..., None]) & (row < bottom[..., None])
    columns = (column >= left[..., None]) & (column < right[..., None])
    return (rows.transpose(1, 2).float() @ columns.float()) > 0


def flipped(values: Tensor, flip: Tensor, axis: int) -> Tensor:
    """Mirror those of (B, ...) along an axis for which `flip` (B,) says so."""
    which = flip.reshape(-1, *[1] * (values.ndim - 1))
    return torch.where(which, values.flip(axis), values)


def unpacked_bits(packed: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Unpack (B, bytes) uint8 of numpy's packbits to (B, *shape) uint8, 0 or 1."""
    places = torch.arange(7, -1, -1, device=packed.device, dtype=torch.uint8)
    bits = (packed[..., None] >> places) & 1
    count = torch.Size(shape).numel()
    return bits.flatten(1)[:, :count].reshape(len(packed), *shape)


def _rolled(cells: Tensor, shift: Tensor) -> Tensor:
    """Roll each of (B, h, w) by its own (B, 2) rows and columns."""
    _, height, width = cells.shape
    row = torch.arange(height, device=cells.device) - shift[:, :1].long()
    column = torch.arange(width, device=cells.device) - shift[:, 1:].long()
    index = (row % height)[:, :, None] * width + (column % width)[:, None, :]
    return cells.flatten(1).gather(1, index.flatten(1)).reshape(cells.shape)
