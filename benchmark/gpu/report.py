"""The outcomes of the list as Markdown; TensorRT figures only where TensorRT ran."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from benchmark.gpu.floor import floor_ms
from benchmark.gpu.latency import COMPILED, EAGER, GRAPH, WHOLE
from benchmark.gpu.plan import OK
from benchmark.machine import machine_lines
from benchmark.speed.measure import OTHER
from cigocc_ros.core.markdown import table

Result = dict[str, Any]
COLUMNS = tuple((p, m) for p in ('fp32', 'fp16') for m in (EAGER, GRAPH, COMPILED))
AIM_FLOOR, AIM_FULL_MS, AIM_LABELS = 2.0, 8.0, 0.995
TENSORRT_WAYS = ('cuda graph', 'kernels one by one')


def markdown(result: Result) -> str:
    """Return the page's generated part."""
    steps = {step['name']: step for step in result['steps']}
    lines = [*machine_lines(result['machine'])]
    device = _found(steps, 'device')
    if device:
        lines += ['', _device_line(device)]
    lines += ['', '## What ran', '', *_statuses(result['steps'])]
    for config in _configs(steps, 'torch'):
        lines += ['', f'## `{config}` in torch', '', *_latency(steps, config, device)]
    lines += _titled('Labels, fp16 against fp32', list(_numerics(steps)))
    lines += _titled('TensorRT', list(_tensorrt(steps)))
    return '\n'.join(lines) + '\n'


def _titled(title: str, lines: list[str]) -> list[str]:
    return ['', f'## {title}', '', *lines] if lines else []


def _found(steps: Result, name: str) -> Result:
    step = steps.get(name)
    return dict(step['found']) if step else {}


def _configs(steps: Result, kind: str) -> list[str]:
    """Return the configs of steps `KIND CONFIG ...` that found anything, in their order."""
    names = [name.split()[1] for name, s in steps.items() if name.startswith(kind) and s['found']]
    return list(dict.fromkeys(names))


def _device_line(device: Result) -> str:
    peaks = device['peaks']
    facts = [
        f'{key} {device[key]}' for key in ('compute_capability', 'cuda', 'cudnn') if key in device
    ]
    memory = f', {device["memory_gb"]:g} GB' if 'memory_gb' in device else ''
    return (
        f'{device["name"]}{memory}; torch {device["torch"]}{"".join(f", {f}" for f in facts)}. '
        f'Measured peaks: {peaks["fp16_flops"] / 1e12:.3g} TFLOP/s fp16, '
        f'{peaks["fp32_flops"] / 1e12:.3g} fp32, {peaks["bytes_per_s"] / 1e12:.3g} TB/s.'
    )


def _statuses(steps: list[Result]) -> list[str]:
    rows = [[s['name'], s['status'], f'{s["seconds"]:.0f}', _short(s['reason'])] for s in steps]
    return table(('step', 'status', 's', 'reason'), rows, left=2)


def _short(reason: str) -> str:
    """Return the last line."""
    last = reason.strip().splitlines()[-1] if reason.strip() else ''
    return last[:160]


def _latency(steps: Result, config: str, device: Result) -> Iterator[str]:
    """Yield medians per stage and way, with the floor, then the memory and what failed."""
    cells, errors, memory, weights = _cells(steps, config)
    floor = _found(steps, f'floor {config}').get('stages', {})
    counted = bool(floor and device)
    peaks = device.get('peaks', {})
    limits = {name: floor_ms(stage, peaks) for name, stage in floor.items()} if counted else {}
    limits[WHOLE] = sum(limits.values())
    columns = [c for c in COLUMNS if any((name, *c) in cells for name in (WHOLE, *floor))]
    order = list(dict.fromkeys(name for name, *_ in cells))
    rows = []
    for name in sorted(order, key=lambda name: name == WHOLE):
        row = [name.replace('_', ' ')]
        row += [_milliseconds(cells.get((name, *column))) for column in columns]
        rows.append([*row, _milliseconds(limits.get(name) if counted else None)])
    if counted and OTHER in limits:
        rows.insert(-1, [OTHER, *('' for _ in columns), _milliseconds(limits[OTHER])])
    yield from table(('stage, median ms', *(' '.join(c) for c in columns), 'floor fp16'), rows)
    yield ''
    best = min((ms for (name, *_), ms in cells.items() if name == WHOLE), default=None)
    if counted and best is not None:
        times = best / limits[WHOLE]
        yield f'Best {best:.2f} ms, {times:.1f} times the floor ({_aim(times, AIM_FLOOR)}).'
        if config == 'full':
            yield f'Aim for `full` on an H100: {AIM_FULL_MS:g} ms ({_aim(best, AIM_FULL_MS)}).'
    yield f'Weights: {weights}. Peak memory: {memory}.'
    graphs = _found(steps, f'compiled {config} fp16 whole').get('modes', {})
    if 'graphs' in graphs.get(COMPILED, {}).get(WHOLE, {}):
        yield f'torch.compile: {graphs[COMPILED][WHOLE]["graphs"]} graph(s) of the whole.'
    for error, stages in errors.items():
        yield f'- {error} ({", ".join(stages)})'


def _aim(found: float, at_most: float) -> str:
    return f'at most {at_most:g} aimed at: {"met" if found <= at_most else "not met"}'


def _cells(
    steps: Result, config: str
) -> tuple[dict[tuple[str, str, str], float], dict[str, list[str]], str, str]:
    """Return medians by (stage, precision, mode), what failed, memory and kind of weights."""
    cells: dict[tuple[str, str, str], float] = {}
    errors, memory, weights = defaultdict[str, list[str]](list), [], 'random'
    for name, step in steps.items():
        words, found = name.split(), step['found']
        if words[0] not in ('torch', 'compiled') or words[1] != config or not found:
            continue
        precision, weights = words[2], found['weights']
        if 'memory_mb' in found:
            memory.append(f'{" ".join(words[:3])} {found["memory_mb"]} MB')
        for mode, stages in found['modes'].items():
            for stage, result in stages.items():
                if 'median_ms' in result:
                    cells[stage, precision, mode] = result['median_ms']
                else:
                    errors[f'{precision} {mode}: {result["error"]}'].append(stage)
    return cells, errors, ', '.join(memory) or 'not measured', weights


def _milliseconds(value: float | None) -> str:
    return '' if value is None else f'{value:.3f}'


def _numerics(steps: Result) -> Iterator[str]:
    rows = []
    for config in _configs(steps, 'numerics'):
        found = _found(steps, f'numerics {config}')
        shares = [found[key] for key in ('labels', 'labels_worst_frame', 'labels_where_occupied')]
        met = 'yes' if found['labels'] >= AIM_LABELS else 'no'
        rows.append(
            [
                config,
                found['weights'],
                f'{found["num_frames"]} of {found["frames"]}',
                *(f'{100 * share:.3f} %' for share in (*shares, found['occupied_iou'])),
                f'{found["largest_probability_difference"]:.3f}',
                'yes' if found['all_finite'] else 'no',
                met,
            ]
        )
    if rows:
        heads = ('config', 'weights', 'frames', 'labels equal', 'worst frame', 'where occupied')
        more = ('occupied IoU', 'largest probability difference', 'all finite', '99.5 % met')
        yield from table((*heads, *more), rows, left=3)


def _tensorrt(steps: Result) -> Iterator[str]:
    rows = []
    for name, step in steps.items():
        found = step['found']
        for way in TENSORRT_WAYS:
            if name.startswith('tensorrt') and way in found:
                timing = found[way]
                rows.append(
                    [
                        found['model'],
                        f'{found["library"]}, {found["precision"]}, {found["gpu"]["name"]}',
                        way,
                        f'{100 * timing["golden_agreement"]:.2f} %',
                        *(f'{timing[key]:.2f}' for key in ('median_ms', 'p95_ms', 'p99_ms')),
                        f'{found["build_s"]:.0f}' if found['built'] else 'was there',
                        f'{found["engine_mb"]:g}',
                    ]
                )
    if rows:
        heads = ('model', 'engine', 'launch', 'golden labels', 'median ms', 'p95', 'p99')
        yield from table((*heads, 'build s', 'MB'), rows, left=3)
    elif any(name.startswith('tensorrt') for name in steps):
        reasons = {
            f'`{name}`: {step["status"]}'
            + (f', {_short(step["reason"])}' if step['status'] != OK else '')
            for name, step in steps.items()
            if name.startswith('tensorrt')
        }
        yield f'No TensorRT engine was timed ({"; ".join(sorted(reasons))}).'
