"""Camera geometry inside the network: voxels to pixels and pixels to points, always in float32.

Pixel centres lie at integer coordinates of the network's input image (width, height including
padding). Calibration enters only through the (B, 3, 4) matrices of the engine contract.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cigocc_ros.core.grid import VoxelGrid
from cigocc_ros.core.projection import MIN_DEPTH_M

AUTOCAST_KINDS = ('cuda', 'cpu')
"""Devices whose autocast is asked for. `torch.amp.is_autocast_available` is not: Dynamo of torch
2.11 cannot trace it, and the network would fall into 34 graphs."""


def full_precision(like: Tensor) -> AbstractContextManager[object]:
    """Return a context that switches autocast off; float32 runs (and exports) get none."""
    kind = like.device.type
    if kind in AUTOCAST_KINDS and torch.is_autocast_enabled(kind):
        return torch.autocast(kind, enabled=False)
    return nullcontext()


def constant(values: Sequence[float], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return a few numbers as a vector on a device.

    On a GPU they are filled in: a copy from the host would wait for all that is still to be
    computed, and may not be made at all while a CUDA graph is recorded.
    """
    if _fills(device):
        return torch.cat([torch.full((1,), x, dtype=dtype, device=device) for x in values])
    return torch.tensor(values, dtype=dtype, device=device)


def _fills(device: torch.device) -> bool:
    return device.type == 'cuda' and not torch.compiler.is_compiling()


class Projection(NamedTuple):
    """Voxel centres in the image, each (B, X, Y, Z): pixels, depth along the axis, in view."""

    u_px: Tensor
    v_px: Tensor
    depth_m: Tensor
    in_image: Tensor


class VoxelProjector(nn.Module):
    """Projects the centres of a grid; keeps three axes instead of a table of all centres."""

    x_m: Tensor
    y_m: Tensor
    z_m: Tensor

    def __init__(
        self,
        grid: VoxelGrid,
        image_size: tuple[int, int],
        shift: tuple[float, float, float] = (0.0, 0.0, 0.0),
        fold: int = 1,
    ) -> None:
        """Take the grid, the input (height, width) and, in edges, a shift of all centres.

        With a `fold` f the centres come as the f x f x f volumes of every f-th voxel of each axis,
        (B, f ** 3, X / f, Y / f, Z / f).
        """
        super().__init__()
        self.image_size = image_size
        for axis, name in enumerate(('x_m', 'y_m', 'z_m')):
            index = torch.arange(grid.shape[axis], dtype=torch.float64)
            centers = grid.origin_m[axis] + (index + 0.5 + shift[axis]) * grid.voxel_size_m[axis]
            shape = [-1 if axis == other else 1 for other in range(3)]
            if fold > 1:  # one axis for all f ** 3: TensorRT takes tensors of eight at most
                chosen = torch.arange(fold**3) // fold ** (2 - axis) % fold
                centers, shape = centers.reshape(-1, fold).T[chosen], [fold**3, *shape]
            self.register_buffer(name, centers.float().reshape(shape), persistent=False)

    def forward(self, pixel_from_velo: Tensor) -> Projection:
        """Project with (B, 3, 4) matrices; pixels outside the image are clamped to its border."""
        height, width = self.image_size
        with full_precision(pixel_from_velo):
            m = pixel_from_velo.float()
            m = m.reshape(*m.shape, *[1] * self.x_m.dim())
            u, v, depth = (
                m[:, row, 0] * self.x_m
                + m[:, row, 1] * self.y_m
                + m[:, row, 2] * self.z_m
                + m[:, row, 3]
                for row in range(3)
            )
            divisor = depth.clamp(min=MIN_DEPTH_M)
            u, v = u / divisor, v / divisor
            in_image = (depth > MIN_DEPTH_M) & (u > 0) & (u < width) & (v > 0) & (v < height)
            return Projection(u.clamp(-1, width), v.clamp(-1, height), depth, in_image)


def normalized_pixel(u_px: Tensor, v_px: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Return (..., 2) in [0, 1] across the image area: ((u + 0.5) / W, (v + 0.5) / H)."""
    height, width = image_size
    return torch.stack(((u_px + 0.5) / width, (v_px + 0.5) / height), dim=-1)


def pixel_rays(velo_from_pixel: Tensor, image_size: tuple[int, int], stride: int) -> Tensor:
    """Return A (u, v, 1) for the centres of the stride cells, (B, 3, H/stride, W/stride).

    The point of a cell at depth d lies at d * ray + c in the grid frame. The centre of cell i is
    pixel stride * i + (stride - 1) / 2.
    """
    height, width = image_size
    with full_precision(velo_from_pixel):
        matrix = velo_from_pixel.float()
        device = matrix.device
        u = torch.arange(width // stride, device=device) * stride + (stride - 1) / 2
        v = torch.arange(height // stride, device=device) * stride + (stride - 1) / 2
        m = matrix[:, :, :, None, None]
        return m[:, :, 0] * u + m[:, :, 1] * v[:, None] + m[:, :, 2]
