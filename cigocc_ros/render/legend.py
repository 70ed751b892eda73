"""The legend: colour, name and number of voxels of every class in the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.labels import CLASS_NAMES, EMPTY, NUM_CLASSES, PALETTE_RGB
from cigocc_ros.render.text import FAINT_INK, PAPER, draw_text, text_width

if TYPE_CHECKING:
    from PIL.Image import Image

FONT_PX, ROW_PX, SWATCH_PX, GAP_PX = 14, 22, 13, 26


@dataclass(frozen=True)
class LegendEntry:
    """One class and its number of voxels in each of the maps shown."""

    name: str
    rgb: tuple[int, int, int]
    counts: tuple[int, ...]

    @property
    def numbers(self) -> str:
        """The counts as they are written, maps separated by slashes."""
        return ' / '.join(f'{count:,}' for count in self.counts)


def legend_entries(maps: Sequence[NDArray[np.uint8]]) -> list[LegendEntry]:
    """Return the classes present in any of the maps of train ids, the commonest first."""
    if not maps:
        return []
    counts = np.array([np.bincount(m.ravel(), minlength=256)[:NUM_CLASSES] for m in maps])
    total = counts.sum(axis=0)
    total[EMPTY] = 0
    order = sorted(np.flatnonzero(total).tolist(), key=lambda train_id: -int(total[train_id]))
    return [_entry(train_id, counts[:, train_id].tolist()) for train_id in order]


def _entry(train_id: int, counts: list[int]) -> LegendEntry:
    red, green, blue = PALETTE_RGB[train_id].tolist()
    return LegendEntry(CLASS_NAMES[train_id], (red, green, blue), tuple(counts))


def draw_legend(entries: Sequence[LegendEntry], width: int) -> Image:
    """Return a strip of `width` pixels, as many rows high as it takes."""
    from PIL import Image, ImageDraw

    name_px = max((text_width(entry.name, FONT_PX) for entry in entries), default=0)
    number_px = max((text_width(entry.numbers, FONT_PX) for entry in entries), default=0)
    column_px = SWATCH_PX + 7 + name_px + 10 + number_px + GAP_PX
    columns = max(1, int((width + GAP_PX) // column_px))
    rows = max(1, -(-len(entries) // columns))
    strip = Image.new('RGB', (width, rows * ROW_PX), PAPER)
    if not entries:
        draw_text(strip, (0, ROW_PX / 2), 'no occupied voxel', FONT_PX, anchor='lm')
    for place, entry in enumerate(entries):
        left, top = (place // rows) * column_px, (place % rows) * ROW_PX
        middle = top + ROW_PX / 2
        corner = (left, middle - SWATCH_PX / 2)
        square = (*corner, left + SWATCH_PX, corner[1] + SWATCH_PX)
        ImageDraw.Draw(strip).rectangle(square, fill=entry.rgb, outline=FAINT_INK)
        draw_text(strip, (left + SWATCH_PX + 7, middle), entry.name, FONT_PX, anchor='lm')
        right = left + column_px - GAP_PX
        style = {'anchor': 'rm', 'fill': FAINT_INK}
        draw_text(strip, (right, middle), entry.numbers, FONT_PX, **style)
    return strip
