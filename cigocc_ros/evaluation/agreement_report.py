"""A comparison of networks as JSON, for programs, and as Markdown, for people."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cigocc_ros import __version__
from cigocc_ros.core.files import write_atomically
from cigocc_ros.core.labels import CLASS_NAMES
from cigocc_ros.evaluation.agreement import AgreementScores
from cigocc_ros.evaluation.report import NOT_RECORDED

JSON_FILE, MARKDOWN_FILE = 'parity.json', 'parity.md'


@dataclass(frozen=True)
class ComparedEngine:
    """One side of a comparison, with how long its inference took in the same run."""

    name: str
    """BACKEND:MODEL, as given."""
    engine: str
    model: str
    file: str
    sha256: str | None
    latency_ms: tuple[float, ...]
    """Of the engine alone, by frame, the warm-up left out."""

    @property
    def median_ms(self) -> float:
        """Median latency."""
        ordered = sorted(self.latency_ms)
        middle = len(ordered) // 2
        return (ordered[middle] + ordered[~middle]) / 2


@dataclass(frozen=True)
class Comparison:
    """The reference, the others, how each of them agrees with it, and on what."""

    reference: ComparedEngine
    candidates: tuple[ComparedEngine, ...]
    scores: tuple[AgreementScores, ...]
    """One per candidate."""
    frames: str
    depth_prior: str
    machine: str
    code_commit: str | None

    def speedup(self, candidate: ComparedEngine) -> float:
        """Return how many times faster than the reference a candidate is."""
        return self.reference.median_ms / candidate.median_ms


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
    return ['| | |', '|---|---|', *(f'| {name} | {value} |' for name, value in rows.items()), '']


def _engine_lines(comparison: Comparison) -> list[str]:
    lines = [
        '| | Engine | Model | File | sha256 | Median ms | Times faster |',
        '|---|---|---|---|---|---:|---:|',
    ]
    for engine in (comparison.reference, *comparison.candidates):
        sha256 = engine.sha256[:12] if engine.sha256 else NOT_RECORDED
        cells = (engine.name, engine.engine, engine.model, engine.file, sha256)
        speed = f'{engine.median_ms:.1f} | {comparison.speedup(engine):.2f}'
        lines.append(f'| {" | ".join(cells)} | {speed} |')
    return [*lines, '']


def _agreement_lines(comparison: Comparison) -> list[str]:
    lines = [
        '| Against the reference | Labels equal | on the worst frame | where occupied '
        '| Occupied IoU | Mean IoU | Largest probability difference | Mean |',
        '|---|---:|---:|---:|---:|---:|---:|---:|',
    ]
    for candidate, scores in zip(comparison.candidates, comparison.scores, strict=True):
        shares = (
            scores.labels,
            scores.labels_worst_frame,
            scores.labels_where_occupied,
            scores.occupied_iou,
            scores.mean_iou,
        )
        cells = ' | '.join(f'{100 * share:.3f} %' for share in shares)
        largest, mean = scores.largest_probability_difference, scores.mean_probability_difference
        lines.append(f'| {candidate.name} | {cells} | {largest:.3f} | {mean:.5f} |')
    return [*lines, '']


def _class_lines(comparison: Comparison) -> list[str]:
    names = ' | '.join(f'IoU {candidate.name}' for candidate in comparison.candidates)
    lines = [f'| Class | {names} |', f'|---|{"---:|" * len(comparison.candidates)}']
    for name in CLASS_NAMES[1:]:
        values = [scores.iou_per_class.get(name) for scores in comparison.scores]
        if any(value is not None for value in values):
            cells = ('-' if value is None else f'{100 * value:.2f} %' for value in values)
            lines.append(f'| {name} | {" | ".join(cells)} |')
    return [*lines, '']


def _note_lines() -> list[str]:
    return [
        'Counted over all voxels of all frames; "where occupied" among voxels that either side '
        'says is occupied. IoU between two networks, not against ground truth; classes that '
        'neither gives are left out. Latency is that of the engine alone, frame by frame in turn '
        'in the same run: compare the ratio.',
    ]
