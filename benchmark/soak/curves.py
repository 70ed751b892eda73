"""Curves over time as one SVG, without a library."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

WIDTH, HEIGHT, LEFT, GAP = 760, 120, 70, 44
COLOURS = ('#1f6fb4', '#d1681d', '#3a8a3a')


@dataclass(frozen=True)
class Panel:
    """One set of axes: values by name over the same moments; NaN leaves a gap."""

    title: str
    series: Mapping[str, Sequence[float]]


def draw(minutes: Sequence[float], panels: Sequence[Panel], warm_up_min: float) -> str:
    """Return an SVG with a panel above the other; what is before the end of warm-up is shaded."""
    total = len(panels) * (HEIGHT + GAP) + 30
    last = max(minutes)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH + LEFT + 20} {total}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for number, panel in enumerate(panels):
        top = 24 + number * (HEIGHT + GAP)
        parts += _panel(panel, minutes, last, warm_up_min, top)
    parts.append(
        f'<text x="{LEFT}" y="{total - 10}">0</text>'
        f'<text x="{LEFT + WIDTH}" y="{total - 10}" text-anchor="end">{last:.3g} min</text></svg>'
    )
    return '\n'.join(parts) + '\n'


def _panel(
    panel: Panel, minutes: Sequence[float], last: float, warm_up_min: float, top: int
) -> list[str]:
    values = np.array([v for one in panel.series.values() for v in one], dtype=np.float64)
    highest = 1.1 * float(np.nanmax(values)) or 1.0
    parts = [
        f'<text x="{LEFT}" y="{top - 6}" font-weight="bold">{html.escape(panel.title)}</text>',
        f'<rect x="{LEFT}" y="{top}" width="{WIDTH * min(warm_up_min / last, 1):.1f}" '
        f'height="{HEIGHT}" fill="#eeeeee"/>',
        f'<rect x="{LEFT}" y="{top}" width="{WIDTH}" height="{HEIGHT}" fill="none" '
        'stroke="#888888"/>',
        f'<text x="{LEFT - 6}" y="{top + 12}" text-anchor="end">{highest:.4g}</text>',
        f'<text x="{LEFT - 6}" y="{top + HEIGHT}" text-anchor="end">0</text>',
    ]
    for index, (name, series) in enumerate(panel.series.items()):
        colour = COLOURS[index % len(COLOURS)]
        x = LEFT + WIDTH * np.asarray(minutes, dtype=np.float64) / last
        y = top + HEIGHT * (1 - np.asarray(series, dtype=np.float64) / highest)
        parts += [
            f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{line}"/>'
            for line in _lines(x, y)
        ]
        parts.append(
            f'<text x="{LEFT + WIDTH - 110 * index}" y="{top - 6}" text-anchor="end" '
            f'fill="{colour}">{html.escape(name)}</text>'
        )
    return parts


def _lines(x: np.ndarray, y: np.ndarray) -> list[str]:
    """Return the points of each stretch without NaN."""
    lines, points = [], []
    for one, other in zip(x, y, strict=True):
        if np.isfinite(other):
            points.append(f'{one:.1f},{other:.1f}')
        elif points:
            lines.append(' '.join(points))
            points = []
    return [*lines, ' '.join(points)] if points else lines
