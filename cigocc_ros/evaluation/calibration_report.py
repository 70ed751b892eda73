"""A calibration as Markdown: what it does to each depth prior, and the diagrams as tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cigocc_ros.core.calibration import Calibration, Miscalibration
from cigocc_ros.core.markdown import facts, table
from cigocc_ros.core.views import VIEWS
from cigocc_ros.evaluation.calibrate import ByPrior, Fitted, PriorScores, pooled
from cigocc_ros.evaluation.calibration import BINS, Reliability


@dataclass(frozen=True)
class Diagram:
    """Bins before and after, from low to high."""

    title: str
    before: list[Reliability]
    after: list[Reliability]


def diagrams_of(by_prior: ByPrior, fitted: Fitted) -> list[Diagram]:
    """Return the bins before and after, of all priors together."""
    whole = pooled(one for parts in by_prior.values() for one in parts)
    raw, scaled = whole.occupancy.together, whole.occupancy.under(fitted.scalings)
    diagrams = [Diagram('Occupied', raw.reliability(), scaled.reliability())]
    if fitted.temperature is not None:
        least = fitted.least(whole)
        before = whole.classes.counts(least, 1.0).reliability()
        after = whole.classes.counts(least, fitted.temperature).reliability()
        diagrams.append(Diagram('Class of occupied voxels', before, after))
    return diagrams


def view_table(by_prior: ByPrior, fitted: Fitted) -> list[str]:
    """Return a Markdown table of how well each view of each prior is calibrated."""
    rows = []
    for prior, parts in by_prior.items():
        whole = pooled(parts)
        counts, least = whole.occupancy.by_view, fitted.least(whole)
        for view, one, platt, level in zip(VIEWS, counts, fitted.scalings, least, strict=True):
            if one.can_be_judged:
                errors = (one.calibration_error(), one.calibration_error(platt))
                iou = np.append(one.iou, 0.0)[level]  # 0 where no level says so much
                texts = (*(f'{x:.4f}' for x in errors), _percent(iou))
                rows.append((prior, view, *texts, str(int(one.occupied.sum()))))
    return table(('Depth prior', 'view', 'ECE before', 'after', 'IoU after', 'occupied'), rows)


def calibration_markdown(
    calibration: Calibration,
    scores: Mapping[str, PriorScores],
    diagrams: list[Diagram],
    view_lines: list[str],
) -> str:
    """Return the report; `scores` by depth prior, one of them of all together."""
    temperature = calibration.temperature
    rows = {name: str(value) for name, value in calibration.facts.items() if name != 'priors'}
    rows['frames'] = ', '.join(f'{name}: {n}' for name, n in calibration.frames.items())
    for view, one in zip(VIEWS, calibration.scalings, strict=True):
        rows[f'scale, shift, {view}'] = f'{one.scale:.4f}, {one.shift:+.4f}'
    rows['occupied from'] = f'{calibration.threshold:.4f} on'
    rows['temperature of classes'] = 'not judged' if temperature is None else f'{temperature:.4f}'
    lines = ['# Calibration', '', *facts(rows), '', *_score_lines(scores), '', *view_lines]
    for diagram in diagrams:
        lines += ['', f'## {diagram.title}', '', *_diagram_lines(diagram)]
    return '\n'.join([*lines, '', *_notes()]) + '\n'


def _score_lines(scores: Mapping[str, PriorScores]) -> list[str]:
    heads = (
        'Depth prior',
        *('ECE before', 'after', 'held out'),
        *('class ECE before', 'after', 'held out', 'classes right'),
        *('IoU before', 'after', 'held out', 'best alone', 'from'),
    )
    rows = []
    for prior, found in scores.items():
        right = '-' if found.classes_right is None else _percent(found.classes_right)
        rows.append(
            (
                prior,
                *_errors(found.occupied),
                *_errors(found.classes),
                right,
                *map(_percent, (found.iou_before, found.iou_after, found.iou_held_out)),
                _percent(found.own_iou),
                f'{found.own_threshold:.3f}',
            )
        )
    return table(heads, rows)


def _errors(found: Miscalibration | None) -> tuple[str, ...]:
    if found is None:
        return '-', '-', '-'
    return tuple(f'{value:.4f}' for value in (found.before, found.after, found.held_out))


def _diagram_lines(diagram: Diagram) -> list[str]:
    heads = ('', 'said', 'found', 'voxels')
    sides = (('before', diagram.before), ('after', diagram.after))
    rows = [
        (name, _percent(row.said), _percent(row.found), str(row.voxels))
        for name, side in sides
        for row in side
    ]
    return table(heads, rows)


def _notes() -> list[str]:
    return [
        f'Expected calibration error (ECE): {BINS} bins of equal width, known voxels alone, every '
        'one alike. Before: as the network said it. Held out: each part of the frames with the '
        'numbers of the other parts. IoU before is that of the labels given. Class: the best '
        'class of voxels that are occupied and are called so after. Views: outside the image, '
        'seen in it, measured: seen, and at least half of the cell has a depth prior.',
    ]


def _percent(value: float) -> str:
    return f'{100 * value:.2f}'
