"""The runs of an experiment as Markdown tables, one for each task."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmark.finished_runs import tables

HEADINGS = (
    'variant', 'seeds', 'stereo IoU / mIoU', 'mono IoU / mIoU', 'train mIoU', 'stage 1 mIoU',
    'foreign image', 'zero F_i', 'zero Extractor', 'no semantic prior',
)  # fmt: skip
REMOVED = HEADINGS[6:]


def markdown(out: Path) -> str:
    """Return the tables of all runs below `out`; raise DataFileError if there are none."""
    return tables(out, 'task', _table)


def _table(task: str, runs: Sequence[dict[str, Any]]) -> str:
    names = list(dict.fromkeys(run['variant']['name'] for run in runs))
    lines = [f'{task}:', '', f'| {" | ".join(HEADINGS)} |', '|---' * len(HEADINGS) + '|']
    lines += [_row([run for run in runs if run['variant']['name'] == name]) for name in names]
    return '\n'.join(lines) + '\n'


def _row(runs: Sequence[dict[str, Any]]) -> str:
    """Return the mean over seeds; removed parts as the change of mIoU, with stereo."""

    def mean(prior: str, name: str, key: str) -> str:
        found = [run['val'][prior].get(name) for run in runs]
        return '–' if None in found else f'{statistics.mean(f[key] for f in found):.1f}'

    cells = [
        runs[0]['variant']['says'],
        ', '.join(str(run['seed']) for run in runs),
        *(f'{mean(p, "whole", "iou")} / {mean(p, "whole", "miou")}' for p in ('stereo', 'none')),
        f'{statistics.mean(run["train"]["miou"] for run in runs):.1f}',
        mean('stereo', 'stage1', 'miou'),
        *(mean('stereo', name, 'miou') for name in REMOVED),
    ]
    return f'| {" | ".join(cells)} |'
