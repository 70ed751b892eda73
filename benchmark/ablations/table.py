"""One Markdown table of all runs: means over seeds, differences to the full network."""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from benchmark.ablations.runs import Result
from benchmark.ablations.variants import FULL, Variant
from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.markdown import table

GIVEN_PRIOR = 'stereo'
"""Depth prior of every row but those of PRIOR_PART."""
PRIOR_PART = 'e'
PRIOR_ROWS = {'none': 'no depth prior', 'depth': 'true depth (real frames: the lidar scan)'}
SCORES = (('synthetic', 'iou'), ('synthetic', 'miou'), ('real', 'iou'), ('real', 'miou'))
HEADINGS = ('IoU', 'mIoU', 'IoU real', 'mIoU real')
NOISE_FACTOR = 2.0
"""Standard errors of a difference that count as noise."""


class Row(NamedTuple):
    """A line of the table: the scores of its seeds, by column."""

    part: str
    says: str
    scores: list[list[float]]
    results: list[Result]


def markdown(results: Sequence[Result], variants: dict[str, Variant]) -> str:
    """Return the table and how to read it."""
    rows = _rows(results, variants)
    full, trained = rows[0], [row for row in rows if row.part != PRIOR_PART]
    deviations = [_pooled([row.scores[c] for row in trained]) for c in range(len(SCORES))]
    heads = ('part', 'variant', *HEADINGS, 'M param.', 'GMAC', 'CPU ms')
    lines = table(heads, [_cells(row, full, deviations) for row in rows], left=2)
    return '\n'.join([*lines, '', *_legend(full, deviations, results)]) + '\n'


def exceeds_noise(difference: float, deviation: float, seeds: int, seeds_full: int) -> bool:
    """Say whether a difference of means is larger than NOISE_FACTOR of its standard errors."""
    return abs(difference) > NOISE_FACTOR * deviation * math.sqrt(1 / seeds + 1 / seeds_full)


def _rows(results: Iterable[Result], variants: dict[str, Variant]) -> list[Row]:
    """Return the full network, its variants as listed, then the full one with other priors."""
    by_variant: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        by_variant[result['variant']].append(result)
    if FULL not in by_variant:
        raise DataFileError(f'no finished run of {FULL!r}, which all are compared with')
    rows = [
        Row(variant.part, variant.says, _scores(found, GIVEN_PRIOR), found)
        for variant in variants.values()
        if (found := by_variant[variant.name])
    ]
    full = by_variant[FULL]
    return rows + [
        Row(PRIOR_PART, says, _scores(full, prior), full) for prior, says in PRIOR_ROWS.items()
    ]


def _scores(results: Sequence[Result], prior: str) -> list[list[float]]:
    """Return per column the percentages of the seeds; none where nothing real was scored."""
    return [
        [100 * result[data][prior][name] for result in results if result[data]]
        for data, name in SCORES
    ]


def _pooled(samples: Iterable[Sequence[float]]) -> float:
    """Return the standard deviation that the samples share, each about its own mean."""
    several = [sample for sample in samples if len(sample) > 1]
    if not several:
        return math.nan
    freedom = sum(len(sample) - 1 for sample in several)
    squares = sum(statistics.variance(sample) * (len(sample) - 1) for sample in several)
    return math.sqrt(squares / freedom)


def _cells(row: Row, full: Row, deviations: Sequence[float]) -> list[str]:
    cells = [
        _cell(values, None if row is full else base, deviation)
        for values, base, deviation in zip(row.scores, full.scores, deviations, strict=True)
    ]
    cost = row.results[0]['cost']
    fastest = min(result['cost']['forward_cpu_ms'] for result in row.results)
    costs = [f'{cost["parameters"] / 1e6:.2f}', f'{cost["gmac"]:.2f}', f'{fastest:.0f}']
    return [row.part, row.says, *cells, *costs]


def _cell(values: Sequence[float], base: Sequence[float] | None, deviation: float) -> str:
    """Return e.g. `51.2 ± 0.4 (**-1.3**)`."""
    if not values:
        return '–'
    mean = statistics.mean(values)
    spread = f' ± {statistics.stdev(values):.1f}' if len(values) > 1 else ''
    if not base:
        return f'{mean:.1f}{spread}'
    difference = mean - statistics.mean(base)
    beyond = exceeds_noise(difference, deviation, len(values), len(base))
    mark = '**' if beyond else ''
    return f'{mean:.1f}{spread} ({mark}{difference:+.1f}{mark})'


def _legend(full: Row, deviations: Sequence[float], results: Sequence[Result]) -> list[str]:
    return [_reading(deviations, results), '', _conditions(full.results[0])]


def _reading(deviations: Sequence[float], results: Sequence[Result]) -> str:
    """Say what the numbers in a cell are."""
    counts = sorted(Counter(result['variant'] for result in results).values())
    seeds = ' to '.join(str(n) for n in dict.fromkeys((counts[0], counts[-1])))
    limits = ', '.join(
        f'{NOISE_FACTOR * s * math.sqrt(2 / counts[-1]):.1f} ({name})'
        for name, s in zip(HEADINGS, deviations, strict=True)
        if not math.isnan(s)
    )
    return (
        f'Percent; mean ± standard deviation where there are several seeds (here {seeds}); in '
        'brackets the difference to the whole network, bold where it is larger than the noise: '
        f'{NOISE_FACTOR:g} standard errors of a difference, from the deviation that all variants '
        f'share: {limits or "unknown with one seed"}.'
    )


def _conditions(run: Result) -> str:
    """Say what a run was, which is the same for all but for what a row names."""
    train, threads = run['train'], run['threads']
    return (
        f'Network `{run["model"]["name"]}`, {train["steps"]} optimiser steps of batch '
        f'{train["batch_size"]} in {train["precision"]} on {run["train_frames"]} frames, scored '
        f'on {run["val_frames"]} frames of other streets (the grid of the network) and on '
        f'{len(run["real_frames"])} real frames (voxels of 0.2 m). Depth prior {GIVEN_PRIOR} '
        f'except in part {PRIOR_PART}. CPU ms: of the fastest eager fp32 forward, on '
        f'{threads} CPU thread{"s" if threads > 1 else ""}.'
    )
