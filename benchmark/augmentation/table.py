"""The runs as Markdown tables, one for each stage: means over seeds, how far they lie apart."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmark.finished_runs import tables
from cigocc_ros.core.markdown import table

SHOWN = {
    'eyes': ('miou', 'accuracy', 'depth_near', 'depth_error'),
    'joint': ('iou', 'miou'),
}
"""Scores of a stage, in percent."""


def markdown(out: Path) -> str:
    """Return the tables of all runs below `out`; raise DataFileError if there are none."""
    return tables(out, 'stage', _table)


def _table(stage: str, runs: Sequence[dict[str, Any]]) -> str:
    names = SHOWN[stage]
    columns = [
        (where, prior, name)
        for where in ('unseen', 'seen')
        for prior in ('none', 'stereo')
        for name in names
        if where == 'unseen' or name == names[0]
    ]
    head = ['variant', 'seeds', *(f'{where}, {prior}: {name}' for where, prior, name in columns)]
    rows = []
    for variant in dict.fromkeys(run['variant']['name'] for run in runs):
        own = [run for run in runs if run['variant']['name'] == variant]
        values = [
            [100 * run['scores'][where][prior][name] for run in own]
            for where, prior, name in columns
        ]
        rows.append([variant, str(len(own)), *map(_figure, values)])
    lines = '\n'.join(table(head, rows))
    return f'`{stage}`, {runs[0]["train"]["steps"]} steps\n\n{lines}\n'


def _figure(values: Sequence[float]) -> str:
    spread = f' +- {(max(values) - min(values)) / 2:.1f}' if len(values) > 1 else ''
    return f'{statistics.mean(values):.1f}{spread}'
