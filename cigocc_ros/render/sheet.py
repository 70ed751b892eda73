"""A whole picture: caption, camera image, one or two voxel views, legend."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.frames import Occupancy
from cigocc_ros.core.grid import VoxelGrid
from cigocc_ros.core.labels import PALETTE_RGB
from cigocc_ros.render.error_map import VERDICT_RGB, ErrorMap
from cigocc_ros.render.legend import LegendEntry, draw_legend, legend_entries
from cigocc_ros.render.picture import draw_voxels
from cigocc_ros.render.text import FAINT_INK, INK, PAPER, draw_text
from cigocc_ros.render.views import CHASE
from cigocc_ros.render.voxel_mesh import drawn_voxels

if TYPE_CHECKING:
    from PIL.Image import Image

DEFAULT_SIZE = (1280, 1000)
MARGIN_PX, TITLE_PX, DETAIL_PX, HEADER_PX, LABEL_PX = 16, 22, 14, 58, 13
IMAGE_SHARE = 0.42  # of the height, at most
SMALLEST_VIEW_PX = 120


@dataclass(frozen=True)
class VoxelPanel:
    """One voxel map of a sheet. labels: (X, Y, Z) uint8 train ids, 0 and 255 are not drawn.

    palette: (N, 3) uint8 rgb by label. legend: where labels are no train ids, what they are.
    """

    title: str
    labels: NDArray[np.uint8]
    grid: VoxelGrid
    palette: NDArray[np.uint8] = field(default_factory=lambda: PALETTE_RGB)
    legend: tuple[LegendEntry, ...] = ()

    @classmethod
    def of(cls, occupancy: Occupancy, title: str = 'voxels') -> VoxelPanel:
        """Return the panel of an occupancy."""
        return cls(title, occupancy.labels, occupancy.grid)

    @classmethod
    def of_errors(cls, errors: ErrorMap) -> VoxelPanel:
        """Return the panel of right, wrong, missed and invented voxels."""
        rows = zip(errors.counts.items(), VERDICT_RGB[1:].tolist(), strict=True)
        legend = tuple(LegendEntry(name, tuple(rgb), (count,)) for (name, count), rgb in rows)
        title = f'errors, IoU {100 * errors.iou:.1f} %'
        return cls(title, errors.verdicts, errors.grid, VERDICT_RGB, legend)

    @property
    def summary(self) -> str:
        """Grid, voxel size and number of occupied voxels in words."""
        shape = ' x '.join(str(n) for n in self.grid.shape)
        sizes = [f'{size:g}' for size in np.round(self.grid.voxel_size_m, 6)]
        size = sizes[0] if len(set(sizes)) == 1 else ' x '.join(sizes)
        count = int(drawn_voxels(self.labels).sum())
        return f'{count:,} occupied voxels of {size} m in a grid of {shape}'


def draw_sheet(
    title: str,
    panels: list[VoxelPanel],
    image: NDArray[np.uint8] | None = None,
    *,
    details: str = '',
    view: str = CHASE,
    size: tuple[int, int] = DEFAULT_SIZE,
) -> NDArray[np.uint8]:
    """Return the sheet (H, W, 3) uint8 rgb, `size` = (width, height) px.

    image: (h, w, 3) uint8 rgb, fitted above the views. details: what stands behind the summary of
    the first panel in the caption (model, latency). Raises ConfigError where `size` is too small.
    """
    from PIL import Image as PillowImage

    width, height = size
    inner = width - 2 * MARGIN_PX
    legend = draw_legend(_entries(panels), max(inner, 1))
    sheet = PillowImage.new('RGB', size, PAPER)
    draw_text(sheet, (MARGIN_PX, 10), title, TITLE_PX, fill=INK)
    caption = ' | '.join(text for text in (panels[0].summary, details) if text)
    draw_text(sheet, (MARGIN_PX, 36), caption, DETAIL_PX, fill=FAINT_INK)
    top = HEADER_PX
    if image is not None:
        top += _paste_image(sheet, image, top) + MARGIN_PX // 2
    legend_top = height - legend.height - MARGIN_PX // 2
    _paste_views(sheet, panels, view, top, legend_top - MARGIN_PX // 2)
    sheet.paste(legend, (MARGIN_PX, legend_top))
    return np.asarray(sheet)


def _entries(panels: list[VoxelPanel]) -> list[LegendEntry]:
    """Return the classes of all panels of train ids, then what other panels show."""
    classes = legend_entries([panel.labels for panel in panels if not panel.legend])
    return [*classes, *(entry for panel in panels for entry in panel.legend)]


def _paste_image(sheet: Image, image: NDArray[np.uint8], top: int) -> int:
    """Fit the camera image into the upper part of the sheet and return its height."""
    from PIL import Image as PillowImage

    inner = sheet.width - 2 * MARGIN_PX
    scale = min(inner / image.shape[1], IMAGE_SHARE * sheet.height / image.shape[0])
    width, height = (max(1, round(float(scale) * side)) for side in image.shape[1::-1])
    resized = PillowImage.fromarray(image).resize((width, height), PillowImage.Resampling.LANCZOS)
    sheet.paste(resized, ((sheet.width - width) // 2, top))
    return int(height)


def _paste_views(sheet: Image, panels: list[VoxelPanel], view: str, top: int, bottom: int) -> None:
    """Draw the panels beside each other between two rows."""
    from PIL import Image as PillowImage

    gap = MARGIN_PX // 2
    width = (sheet.width - 2 * MARGIN_PX - gap * (len(panels) - 1)) // len(panels)
    height = bottom - top
    if min(width, height) < SMALLEST_VIEW_PX:
        raise ConfigError(
            f'a sheet of {sheet.width}x{sheet.height} leaves {width}x{height} px for each voxel '
            f'view, at least {SMALLEST_VIEW_PX} are needed: make it larger'
        )
    for place, panel in enumerate(panels):
        left = MARGIN_PX + place * (width + gap)
        drawn = draw_voxels(panel.labels, panel.grid, (width, height), view, palette=panel.palette)
        sheet.paste(PillowImage.fromarray(drawn), (left, top))
        if len(panels) > 1:
            draw_text(sheet, (left + 8, top + 6), panel.title, LABEL_PX)
