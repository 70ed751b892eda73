"""A comparison of networks as JSON, for programs, and as Markdown, for people."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cigocc_ros import __version__
from cigocc_ros.core.files import write_atomically
from cigocc_ros.core.labels import CLASS_NAMES
from cigocc_ros.core.markdown import facts, table
from cigocc_ros.evaluation.compare import ComparedEngine, Comparison
from cigocc_ros.evaluation.report import NOT_RECORDED

JSON_FILE, MARKDOWN_FILE = 'parity.json', 'parity.md'


def comparison_dict(comparison: Comparison) -> dict[str, Any]:
    """Return everything as plain values; shares in 0..1, latencies in ms."""
    rows = zip(comparison.candidates, comparison.scores, strict=True)
    return {
        'cigocc': __version__,
        'code_commit': comparison.code_commit,
        'machine': comparison.machine,
        'frames': comparison.frames,
        'depth_prior': comparison.depth_prior,
        'reference': _engine_dict(comparison.reference),
        'candidates': [
            {
                **_engine_dict(candidate),
                'speedup': comparison.speedup(candidate),
                'agreement': scores.to_dict(),
            }
            for candidate, scores in rows
        ],
    }


def comparison_markdown(comparison: Comparison) -> str:
    """Return tables of the engines, the agreement and the classes."""
    sections = (
        [f'# {comparison.reference.name} against {len(comparison.candidates)} other(s)', ''],
        _facts_lines(comparison),
        _engine_lines(comparison),
        _agreement_lines(comparison),
        _class_lines(comparison),
        _note_lines(),
    )
    return '\n'.join(line for section in sections for line in section) + '\n'


def write_comparison(folder: Path, comparison: Comparison) -> tuple[Path, Path]:
    """Write parity.json and parity.md into a folder and return both paths."""
    paths = folder / JSON_FILE, folder / MARKDOWN_FILE
    write_atomically(paths[0], json.dumps(comparison_dict(comparison), indent=2) + '\n')
    write_atomically(paths[1], comparison_markdown(comparison))
    return paths


def _engine_dict(engine: ComparedEngine) -> dict[str, Any]:
    return {**asdict(engine), 'latency_median_ms': engine.median_ms}


def _facts_lines(comparison: Comparison) -> list[str]:
    rows = {
        'Frames': comparison.frames,
        'Depth prior': comparison.depth_prior,
        'Machine': comparison.machine,
        'Commit': comparison.code_commit or NOT_RECORDED,
    }
    return [*facts(rows), '']


def _engine_lines(comparison: Comparison) -> list[str]:
    rows = []
    for engine in (comparison.reference, *comparison.candidates):
        sha256 = engine.sha256[:12] if engine.sha256 else NOT_RECORDED
        speed = f'{engine.median_ms:.1f}', f'{comparison.speedup(engine):.2f}'
        rows.append((engine.name, engine.engine, engine.model, engine.file, sha256, *speed))
    heads = ('', 'Engine', 'Model', 'File', 'sha256', 'Median ms', 'Times faster')
    return [*table(heads, rows, left=5), '']


def _agreement_lines(comparison: Comparison) -> list[str]:
    rows = []
    for candidate, scores in zip(comparison.candidates, comparison.scores, strict=True):
        shares = (
            scores.labels,
            scores.labels_worst_frame,
            scores.labels_where_occupied,
            scores.occupied_iou,
            scores.mean_iou,
        )
        largest, mean = scores.largest_probability_difference, scores.mean_probability_difference
        cells = [f'{100 * share:.3f} %' for share in shares]
        rows.append((candidate.name, *cells, f'{largest:.3f}', f'{mean:.5f}'))
    heads = ('Against the reference', 'Labels equal', 'on the worst frame', 'where occupied')
    more = ('Occupied IoU', 'Mean IoU', 'Largest probability difference', 'Mean')
    return [*table((*heads, *more), rows), '']


def _class_lines(comparison: Comparison) -> list[str]:
    rows = []
    for name in CLASS_NAMES[1:]:
        values = [scores.iou_per_class.get(name) for scores in comparison.scores]
        if any(value is not None for value in values):
            rows.append((name, *('-' if v is None else f'{100 * v:.2f} %' for v in values)))
    heads = ('Class', *(f'IoU {candidate.name}' for candidate in comparison.candidates))
    return [*table(heads, rows), '']


def _note_lines() -> list[str]:
    return [
        'Counted over all voxels of all frames; "where occupied" among voxels that either side '
        'says is occupied. IoU between two networks, not against ground truth; classes that '
        'neither gives are left out. Latency is that of the engine alone, frame by frame in turn '
        'in the same run: compare the ratio.',
    ]
