"""Reliability diagrams: what was said against what was so, before and after a calibration."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.render.text import FAINT_INK, PAPER, draw_text

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

SIDE_PX, MARGIN_PX, BARS_PX, FONT_PX = 360, 64, 70, 14
GRID_RGB, BEFORE_RGB, AFTER_RGB = (222, 224, 228), (214, 120, 40), (38, 110, 180)
TICKS = 5

Points = Sequence[tuple[float, float, int]]
"""Said and found, 0..1, of how many voxels; from low to high."""


@dataclass(frozen=True)
class ReliabilityPanel:
    """One diagram. errors: expected calibration error before and after, 0..1."""

    title: str
    before: Points
    after: Points
    errors: tuple[float, float]


def draw_reliability(panels: Sequence[ReliabilityPanel]) -> NDArray[np.uint8]:
    """Return the diagrams beside each other, (H, W, 3) uint8 rgb."""
    from PIL import Image as PillowImage

    width = len(panels) * (SIDE_PX + 2 * MARGIN_PX)
    height = SIDE_PX + BARS_PX + 5 * MARGIN_PX // 2
    sheet = PillowImage.new('RGB', (width, height), PAPER)
    for index, panel in enumerate(panels):
        _draw(sheet, panel, index * (SIDE_PX + 2 * MARGIN_PX) + MARGIN_PX, MARGIN_PX)
    return np.asarray(sheet)


def _draw(sheet: Image, panel: ReliabilityPanel, left: int, top: int) -> None:
    from PIL import ImageDraw

    pen = ImageDraw.Draw(sheet)
    bottom = top + SIDE_PX
    draw_text(sheet, (left, top - 46), panel.title, FONT_PX + 2)
    for row, (name, error, rgb) in enumerate(
        zip(('before', 'after'), panel.errors, (BEFORE_RGB, AFTER_RGB), strict=True)
    ):
        place = (left + row * SIDE_PX // 2, top - 22)
        draw_text(sheet, place, f'{name}: ECE {error:.3f}', FONT_PX, fill=rgb)
    for tick in range(TICKS + 1):
        step = tick * SIDE_PX // TICKS
        pen.line((left, bottom - step, left + SIDE_PX, bottom - step), fill=GRID_RGB)
        pen.line((left + step, top, left + step, bottom), fill=GRID_RGB)
        text = f'{tick / TICKS:.1f}'
        grey: dict[str, object] = {'fill': FAINT_INK}
        draw_text(sheet, (left - 8, bottom - step), text, FONT_PX - 2, anchor='rm', **grey)
        draw_text(sheet, (left + step, bottom + 6), text, FONT_PX - 2, anchor='mt', **grey)
    pen.line((left, bottom, left + SIDE_PX, top), fill=FAINT_INK)
    for points, rgb in ((panel.before, BEFORE_RGB), (panel.after, AFTER_RGB)):
        _curve(pen, points, rgb, left, bottom)
    draw_text(sheet, (left + SIDE_PX // 2, bottom + 24), 'said', FONT_PX, anchor='mt')
    draw_text(sheet, (left - 56, top - 24), 'found', FONT_PX)
    _bars(pen, panel, left, bottom + 48 + BARS_PX)
    under = (left, bottom + 54 + BARS_PX)
    draw_text(sheet, under, 'voxels by what was said, log scale', FONT_PX - 2, fill=FAINT_INK)


def _curve(
    pen: ImageDraw, points: Points, rgb: tuple[int, int, int], left: int, bottom: int
) -> None:
    places = [(left + said * SIDE_PX, bottom - found * SIDE_PX) for said, found, _ in points]
    if len(places) > 1:
        pen.line(places, fill=rgb, width=3)
    for x, y in places:
        pen.ellipse((x - 4, y - 4, x + 4, y + 4), fill=rgb)


def _bars(pen: ImageDraw, panel: ReliabilityPanel, left: int, bottom: int) -> None:
    """Draw how many voxels each point stands for, as logarithms."""
    most = max((voxels for side in (panel.before, panel.after) for *_, voxels in side), default=1)
    for side, rgb, shift in ((panel.before, BEFORE_RGB, -5), (panel.after, AFTER_RGB, 0)):
        for said, _, voxels in side:
            high = BARS_PX * math.log1p(voxels) / math.log1p(most)
            x = left + said * SIDE_PX + shift
            pen.rectangle((x, bottom - high, x + 4, bottom), fill=rgb)
