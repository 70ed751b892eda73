"""An evaluation as JSON, for programs, and as Markdown, for people."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cigocc_ros import __version__
from cigocc_ros.core.files import write_atomically
from cigocc_ros.core.installed import code_commit
from cigocc_ros.core.labels import CLASS_NAMES, EMPTY
from cigocc_ros.core.markdown import facts, table
from cigocc_ros.evaluation.calibration import BINS, LevelCounts
from cigocc_ros.evaluation.evaluate import Evaluation
from cigocc_ros.evaluation.metrics import SscScores

JSON_FILE, MARKDOWN_FILE = 'evaluation.json', 'evaluation.md'
NOT_RECORDED = 'not recorded'
STUDENT = 'student: the network alone, no teacher at run time'
"""The path of everything that runs on an engine: its inputs have no teacher features."""


@dataclass(frozen=True, kw_only=True)
class ScoredModel:
    """What was scored, against what."""

    model: str
    """Model id, or the name that the user gave to prediction files."""
    backend: str = NOT_RECORDED
    depth_prior: str = NOT_RECORDED
    semantic_path: str = NOT_RECORDED
    """Whether the high-level features came from the student or from the cached teacher."""
    model_sha256: str | None = None
    model_commit: str | None = None
    """Commit of the code that trained the model."""
    code_commit: str | None = field(default_factory=code_commit)
    """Commit of the code that scored it."""
    data: str
    ground_truth: str
    split: str


def report_dict(scored: ScoredModel, evaluation: Evaluation) -> dict[str, Any]:
    """Return everything as plain values; scores in 0..1, ranges in metres as text keys."""
    return {
        'cigocc': __version__,
        'subject': asdict(scored),
        'frames': evaluation.frames,
        'class_names': list(CLASS_NAMES),
        'reliability': _reliability_dict(evaluation),
        'class_reliability': _class_reliability_dict(evaluation),
        'scores': {f'{m:g}': _scores_dict(scores) for m, scores in evaluation.scores.items()},
        'confusion_rows_predicted': {
            f'{m:g}': matrix.tolist() for m, matrix in evaluation.confusion.items()
        },
    }


def report_markdown(scored: ScoredModel, evaluation: Evaluation) -> str:
    """Return tables of the model, the ranges and the classes; scores in percent."""
    sections = (
        [f'# Scores of {scored.model}', ''],
        _scored_lines(scored, evaluation),
        _range_lines(evaluation),
        _class_lines(evaluation),
        _reliability_lines(evaluation),
        _class_reliability_lines(evaluation),
        _note_lines(evaluation),
    )
    return '\n'.join(line for section in sections for line in section) + '\n'


def write_report(folder: Path, scored: ScoredModel, evaluation: Evaluation) -> tuple[Path, Path]:
    """Write evaluation.json and evaluation.md into a folder and return both paths."""
    paths = folder / JSON_FILE, folder / MARKDOWN_FILE
    text = json.dumps(report_dict(scored, evaluation), indent=2) + '\n'
    write_atomically(paths[0], text)
    write_atomically(paths[1], report_markdown(scored, evaluation))
    return paths


def _scores_dict(scores: SscScores) -> dict[str, Any]:
    names = ('precision', 'recall', 'iou', 'miou', 'num_voxels')
    plain = {name: getattr(scores, name) for name in names}
    return {**plain, 'iou_per_class': scores.by_name()}


def _scored_lines(scored: ScoredModel, evaluation: Evaluation) -> list[str]:
    frames = ', '.join(f'{name}: {count}' for name, count in sorted(evaluation.frames.items()))
    rows = {
        'Model': scored.model,
        'Backend': scored.backend,
        'Depth prior': scored.depth_prior,
        'Semantic path': scored.semantic_path,
        'Model sha256': scored.model_sha256 or NOT_RECORDED,
        'Model trained at commit': scored.model_commit or NOT_RECORDED,
        'Scored at commit': scored.code_commit or NOT_RECORDED,
        'Data': scored.data,
        'Ground truth': scored.ground_truth,
        'Split': scored.split,
        'Frames by sequence': f'{frames} (total {sum(evaluation.frames.values())})',
    }
    return [*facts(rows), '']


def _range_lines(evaluation: Evaluation) -> list[str]:
    rows = []
    for range_m, scores in evaluation.scores.items():
        values = (scores.iou, scores.precision, scores.recall, scores.miou)
        rows.append((f'{range_m:g}', *map(_percent, values), str(scores.num_voxels)))
    heads = ('Range (m)', 'IoU', 'Precision', 'Recall', 'mIoU', 'Known voxels')
    return [*table(heads, rows, left=0), '']


def _class_lines(evaluation: Evaluation) -> list[str]:
    truth = evaluation.confusion[max(evaluation.confusion)].sum(0)
    occupied = max(int(truth[1:].sum()), 1)
    rows = []
    for train_id, name in enumerate(CLASS_NAMES):
        if train_id != EMPTY:
            scores = (each.iou_per_class[train_id] for each in evaluation.scores.values())
            rows.append((name, *map(_percent, scores), _percent(truth[train_id] / occupied)))
    heads = ('Class', *(f'IoU {m:g} m' for m in evaluation.scores), 'Share of occupied')
    return [*table(heads, rows), '']


def _reliability_lines(evaluation: Evaluation) -> list[str]:
    """Say whether `occupied_probability` means what it says; nothing for labels from files."""
    counts = evaluation.reliability
    if counts is None or not counts.can_be_judged:
        return []
    platt = counts.fit()
    threshold, iou = counts.best_threshold()
    return [
        *_reliability_table(('Said to be occupied', 'Occupied', 'Known voxels'), counts),
        '',
        f'Expected calibration error of occupied_probability: {counts.calibration_error():.3f} '
        f"({BINS} bins of equal width). p' = sigmoid({platt.scale:.2f} logit(p) "
        f'{platt.shift:+.2f}), fitted on these frames, would leave '
        f'{counts.calibration_error(platt):.3f}. IoU is best, {_percent(iou)}, where voxels count '
        f'as occupied from {threshold:.3f} on. Choose both on frames that are not reported.',
        '',
    ]


def _class_reliability_lines(evaluation: Evaluation) -> list[str]:
    """Say whether `class_probability` means what it says; nothing of models that do not say it."""
    counts = evaluation.class_reliability
    if counts is None:
        return []
    return [
        *_reliability_table(('Said to be of its class', 'Right', 'Occupied voxels'), counts),
        '',
        f'Expected calibration error of class_probability: {counts.calibration_error():.3f} '
        f'({BINS} bins of equal width), of voxels that are occupied and are called so; '
        f'{_percent(counts.share_right)} of their classes are right.',
        '',
    ]


def _reliability_table(heads: tuple[str, ...], counts: LevelCounts) -> list[str]:
    """Return what was said beside what was found, bin by bin."""
    rows = [
        (_percent(row.said), _percent(row.found), str(row.voxels)) for row in counts.reliability()
    ]
    return table(heads, rows, left=0)


def _class_reliability_dict(evaluation: Evaluation) -> dict[str, Any] | None:
    counts = evaluation.class_reliability
    if counts is None:
        return None
    return {
        'calibration_error': counts.calibration_error(),
        'share_right': counts.share_right,
        'voxels': int(counts.voxels.sum()),
    }


def _reliability_dict(evaluation: Evaluation) -> dict[str, Any] | None:
    counts = evaluation.reliability
    if counts is None or not counts.can_be_judged:
        return None
    platt = counts.fit()
    threshold, iou = counts.best_threshold()
    return {
        'calibration_error': counts.calibration_error(),
        'calibration_error_after': counts.calibration_error(platt),
        'scale': platt.scale,
        'shift': platt.shift,
        'best_threshold': threshold,
        'best_iou': iou,
    }


def _note_lines(evaluation: Evaluation) -> list[str]:
    truth = evaluation.confusion[max(evaluation.confusion)].sum(0)
    present = int((truth[1:] > 0).sum())
    return [
        'Scores in percent, from voxel counts added up over all frames. Range R: the voxels with '
        'x < R and |y| < R/2. Unknown ground truth (255, invalid) is left out, nothing else: '
        'what the camera cannot see is scored too. mIoU is the mean over the 19 classes; of these '
        f'{present} occur in the ground truth, and a class that does not occur counts as 0.',
    ]


def _percent(value: float) -> str:
    return f'{100 * value:.2f}'
