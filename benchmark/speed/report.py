"""The measurements as Markdown: what is aimed at, and one table per part."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmark.machine import machine_lines
from benchmark.speed.measure import OTHER
from benchmark.speed.steps import PATH
from cigocc_ros.core.markdown import table

Result = dict[str, Any]
AIM_PATH_MS, AIM_FRAMES_PER_S, AIM_TORCH, AIM_MEMORY_MB = 10.0, 2.0, 1.5, 2048.0

STEP_KEYS = ('median_ms', 'p95_ms')
DEFAULT_CONFIG, TORCH, ONNXRUNTIME = 'mid', 'torch', 'onnxruntime'


def markdown(result: Result) -> str:
    """Return the page's generated part."""
    parts = [
        *machine_lines(result['machine']),
        '',
        f'Command: `{result["command"]}`, {result["seconds"]:.0f} s; {result["threads"]} threads.',
        *_section('Aims', _aims(result)),
        *_section('The engine alone', list(_engines(result.get('engines', {})))),
        *_section('Around the network', list(_steps(result.get('steps', {})))),
        *_section('The node over DDS', list(_nodes(result.get('nodes', {})))),
    ]
    return '\n'.join(parts) + '\n'


def _section(title: str, lines: list[str]) -> list[str]:
    return ['', f'## {title}', '', *lines] if lines else []


def _aims(result: Result) -> list[str]:
    rows = [
        [aim, wanted, found, 'yes' if met else 'no'] for aim, wanted, found, met in _checks(result)
    ]
    return table(('aim', 'wanted', 'found', 'met'), rows) if rows else []


def _checks(result: Result) -> Iterator[tuple[str, str, str, bool]]:
    """Yield aim, what is wanted, what was found and whether that is enough."""
    for name, steps in result.get('steps', {}).items():
        found = steps[PATH]['median_ms']
        wanted = f'at most {AIM_PATH_MS:g} ms'
        yield f'{PATH}, {name}', wanted, f'{found:.1f} ms', found <= AIM_PATH_MS
    backends = result.get('engines', {}).get(DEFAULT_CONFIG, {}).get('backends', {})
    for name, found in backends.items():
        if name == TORCH:
            continue
        speed = 1e3 / found['median_ms']
        wanted = f'at least {AIM_FRAMES_PER_S:g} frames/s'
        yield f'{DEFAULT_CONFIG}, {name}', wanted, f'{speed:.1f}', speed >= AIM_FRAMES_PER_S
        if TORCH in backends:
            times = backends[TORCH]['median_ms'] / found['median_ms']
            wanted = f'at least {AIM_TORCH:g}x PyTorch eager'
            yield f'{DEFAULT_CONFIG}, {name}', wanted, f'{times:.2f}x', times >= AIM_TORCH
    for model, loads in result.get('nodes', {}).items():
        peak = max(found['peak_rss_mb'] for found in loads.values())
        wanted = f'under {AIM_MEMORY_MB / 1024:g} GB'
        yield f'memory of the node, {model}', wanted, f'{peak:.0f} MB', peak < AIM_MEMORY_MB


def _engines(configs: Result) -> Iterator[str]:
    """Yield a table of engines and one of stages."""
    if not configs:
        return
    heads = ('config', 'engine', 'median ms', 'p95', 'p99', 'frames/s', 'CPU ms', 'x PyTorch')
    rows, stages = [], []
    for config, result in configs.items():
        backends = result['backends']
        reference = backends.get(TORCH)
        for found in backends.values():
            times = f'{reference["median_ms"] / found["median_ms"]:.2f}' if reference else ''
            numbers = [f'{found[key]:.1f}' for key in ('median_ms', 'p95_ms', 'p99_ms')]
            speed, cpu = f'{1e3 / found["median_ms"]:.1f}', f'{found["cpu_ms"]:.0f}'
            memory = [f'{found["load_s"]:.1f}', f'{found["peak_rss_mb"]:.0f}']
            rows.append([config, found['name'], *numbers, speed, cpu, times, *memory])
        stages += ['', *_stage_table(config, backends)]
    yield from table((*heads, 'load s', 'peak MB'), rows, left=2)
    yield ''
    yield (
        f'{_turns(configs)} turns, frame by frame, each engine in a process of its own. The '
        'shipped model where there is one; PyTorch eager, and configs without a model, with '
        'random weights, which take as long.'
    )
    yield from stages


def _turns(configs: Result) -> str:
    counts = {b['count'] for result in configs.values() for b in result['backends'].values()}
    return ' to '.join(str(count) for count in sorted({min(counts), max(counts)}))


def _stage_table(config: str, backends: Result) -> list[str]:
    """Return milliseconds per stage, longest of the first backend first."""
    columns = list(backends.values())
    named = columns[0]['stages_ms']
    order = sorted(set().union(*(c['stages_ms'] for c in columns)), key=lambda s: -named.get(s, 0))
    rows = [
        [stage.replace('_', ' '), *(f'{c["stages_ms"].get(stage, 0.0):.1f}' for c in columns)]
        for stage in sorted(order, key=lambda stage: stage == OTHER)
    ]
    return table((f'stage of {config}, ms', *(c['name'] for c in columns)), rows)


def _steps(settings: Result) -> Iterator[str]:
    """Yield one table of all steps, a pair of columns per grid."""
    if not settings:
        return
    heads = [f'{name}: {kind}' for name in settings for kind in ('ms', 'p95')]
    rows = [
        [step, *(f'{steps[step][key]:.2f}' for steps in settings.values() for key in STEP_KEYS)]
        for step in next(iter(settings.values()))
    ]
    yield from table(('step', *heads), rows)
    yield ''
    turns = next(iter(next(iter(settings.values())).values()))['count']
    yield f'Medians of {turns} turns.'


def _nodes(models: Result) -> Iterator[str]:
    """Yield one table of all models and loads."""
    if not models:
        return
    heads = ('load', 'median ms', 'p95', 'p99', 'frames/s', 'answered', 'CPU %')
    rows = [
        [model, load, *_node_cells(found)]
        for model, loads in models.items()
        for load, found in loads.items()
    ]
    yield from table(('model', *heads, 'peak MB', 'points'), rows, left=2)


def _node_cells(found: Result) -> list[str]:
    return [
        *(f'{found[key]:.1f}' for key in ('median_ms', 'p95_ms', 'p99_ms')),
        f'{found["frames_per_s"]:.1f}',
        f'{found["count"]} of {found["sent"]}',
        f'{found["cpu_percent"]:.0f}',
        f'{found["peak_rss_mb"]:.0f}',
        str(found['points']),
    ]
