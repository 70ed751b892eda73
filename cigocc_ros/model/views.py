"""How the camera sees a voxel, inside the graph: `core.views.views_of_voxels` for tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from cigocc_ros.core.calibration import Scaling
from cigocc_ros.core.config import FEATURE_STRIDE
from cigocc_ros.core.views import MEASURED_FROM
from cigocc_ros.model.geometry import Projection, constant
from cigocc_ros.model.lifting import flat_index


def views(geometry: Projection, measured: Tensor) -> Tensor:
    """Return the index into VIEWS of each voxel, (B, X, Y, Z) int64.

    `measured` (B, H/4, W/4) is the share of each cell's pixels whose depth is known.
    """
    _, rows, columns = measured.shape
    row = ((geometry.v_px + 0.5) / FEATURE_STRIDE).floor().clamp(0, rows - 1)
    column = ((geometry.u_px + 0.5) / FEATURE_STRIDE).floor().clamp(0, columns - 1)
    index = flat_index(row, column, (rows, columns))
    known = measured.flatten().index_select(0, index).reshape(geometry.u_px.shape)
    inside = geometry.in_image.long()
    return inside + inside * (known >= MEASURED_FROM).long()


def scale_and_shift(views: Tensor, scalings: tuple[Scaling, ...]) -> Tensor:
    """Return scale and shift of each voxel by its view, (B, 2, X, Y, Z) float32."""
    numbers = [number for one in scalings for number in (one.scale, one.shift)]
    table = constant(numbers, torch.float32, views.device).reshape(-1, 2)
    chosen = table.index_select(0, views.flatten())
    return chosen.reshape(*views.shape, 2).permute(0, 4, 1, 2, 3)
