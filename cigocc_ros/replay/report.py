"""What a replay came to, as the table that `cigocc demo` prints."""

from __future__ import annotations

import statistics
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cigocc_ros.core.labels import CLASS_NAMES, EMPTY
from cigocc_ros.replay.replay import Replayed

WIDTH = 88


def replay_table(sequence: Path, replayed: Replayed) -> str:
    """Return the report of the node and of the subscriber."""
    collected, clouds = replayed.collected, replayed.clouds
    values = collected.diagnostics
    dropped = {
        name.removeprefix('dropped: '): count
        for name, count in values.items()
        if name.startswith('dropped: ') or name == 'replaced by a newer frame'
    }
    counts = np.array([cloud.class_counts for cloud in clouds])
    occupied = counts.sum(axis=1) - counts[:, EMPTY]
    seen = [CLASS_NAMES[i] for i in np.argsort(-counts.sum(axis=0)) if counts[:, i].any() and i]
    latency = [cloud.latency_ms for cloud in clouds if cloud.latency_ms is not None]
    both = f'{replayed.sent} and {replayed.pace_sent} to measure the pace'
    rows = [
        ('sequence', str(sequence)),
        ('model, backend', f'{values.get("model id", "?")}, {values.get("backend", "?")}'),
        ('speed of the replay', f'{replayed.rate:.2g} x as recorded'),
        ('images sent', both),
        ('frames in (node)', values.get('frames in', '?')),
        ('processed (node)', values.get('processed', '?')),
        ('dropped (node)', ', '.join(f'{n} {name}' for name, n in dropped.items())),
        ('stereo depth priors', values.get('depth priors used', '?')),
        ('voxel clouds arrived', f'{len(clouds)} of {replayed.sent}'),
        ('latency image to voxels', _milliseconds(latency)),
        ('processing in the node', _milliseconds(replayed.processing_ms)),
        ('occupied voxels a frame', f'{np.median(occupied):,.0f} (median)'),
        ('cubes in markers', f'{statistics.median(collected.marker_cubes or [0]):,.0f} (median)'),
        ('classes seen', f'{len(seen)}: {", ".join(seen)}'),
        ('diagnostics', collected.diagnostics_message or '?'),
    ]
    return text_table('what came over DDS', rows)


def _milliseconds(values: list[float]) -> str:
    if not values:
        return 'not measured'
    median, p95 = np.percentile(values, [50, 95])
    return f'median {median:.0f} ms, p95 {p95:.0f} ms'


def text_table(title: str, rows: Sequence[tuple[str, str]], width: int = WIDTH) -> str:
    """Return lines of names and values between rules; long values go on below themselves."""
    names = max(len(name) for name, _ in rows) + 2
    lines = []
    for name, value in rows:
        parts = textwrap.wrap(value, max(width - names, 20), break_on_hyphens=False) or ['']
        lines.append(f'{name:<{names}}{parts[0]}')
        lines += [' ' * names + part for part in parts[1:]]
    rule = '-' * width
    return '\n'.join([rule, title, rule, *lines, rule])
