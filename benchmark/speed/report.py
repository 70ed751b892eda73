"""The measurements as Markdown: what is aimed at, and one table per part."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmark.machine import machine_lines
from benchmark.speed.stage_names import OTHER
from benchmark.speed.steps import BEFORE, OURS, PATH, USUAL
from cigocc_ros.core.markdown import table

Result = dict[str, Any]
AIM_PATH_MS, AIM_MARKERS, AIM_FRAMES_PER_S, AIM_TORCH, AIM_MEMORY_MB = 10.0, 50.0, 2.0, 1.5, 2048.0
MARKERS = 'markers, made and serialised'
DEFAULT_CONFIG, TORCH, ONNXRUNTIME = 'mid', 'torch', 'onnxruntime'
RECORDS = 'usual, records'


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


def ratio(step: Result, peer: str) -> float:
    """Return how many times faster than a peer of the same run we are."""
    return float(step[peer]['median_ms'] / step[OURS]['median_ms'])


def _aims(result: Result) -> list[str]:
    rows = [
        [aim, wanted, found, 'yes' if met else 'no'] for aim, wanted, found, met in _checks(result)
    ]
    return table(('aim', 'wanted', 'found', 'met'), rows) if rows else []


def _checks(result: Result) -> Iterator[tuple[str, str, str, bool]]:
    """Yield aim, what is wanted, what was found and whether that is enough."""
    for name, steps in result.get('steps', {}).items():
        found = steps[PATH][OURS]['median_ms']
        wanted = f'at most {AIM_PATH_MS:g} ms'
        yield f'{PATH}, {name}', wanted, f'{found:.1f} ms', found <= AIM_PATH_MS
        times = ratio(steps[MARKERS], USUAL)
        wanted = f'at least {AIM_MARKERS:g}x faster than Python objects'
        yield f'markers, {name}', wanted, f'{times:.0f}x', times >= AIM_MARKERS
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
        peak = max(ways[OURS]['peak_rss_mb'] for ways in loads.values())
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
    """Yield one table per grid."""
    for name, steps in settings.items():
        heads = ('step', 'ms', 'p95', 'before', 'times', 'usual way', 'times')
        yield from table(
            (f'{name}: {heads[0]}', *heads[1:]), [_step_row(*s) for s in steps.items()]
        )
        yield ''
    if settings:
        turns = next(iter(next(iter(settings.values())).values()))[OURS]['count']
        yield (
            f'Medians of {turns} turns. *Before*: the code before it was profiled, in the same '
            'run. *Usual way*: `benchmark/speed/usual.py`; the cloud from a list of points, as '
            f'`create_cloud` is mostly used (from records: {_records(settings)} ms).'
        )


def _records(settings: Result) -> str:
    found = [
        step[RECORDS]['median_ms']
        for steps in settings.values()
        for step in steps.values()
        if RECORDS in step
    ]
    return ' and '.join(f'{ms:.1f}' for ms in found)


def _step_row(name: str, step: Result) -> list[str]:
    row = [name, f'{step[OURS]["median_ms"]:.2f}', f'{step[OURS]["p95_ms"]:.2f}']
    for peer in (BEFORE, USUAL):
        if peer in step:
            row += [f'{step[peer]["median_ms"]:.2f}', _times(ratio(step, peer))]
        else:
            row += ['', '']
    return row


def _times(value: float) -> str:
    return f'{value:.0f}x' if value >= 10 else f'{value:.1f}x'


def _nodes(models: Result) -> Iterator[str]:
    """Yield one table of all models and loads."""
    if not models:
        return
    heads = ('load', 'node', 'median ms', 'p95', 'p99', 'times', 'frames/s', 'answered', 'CPU %')
    rows = [
        [*row, *_node_cells(way, ways)]
        for model, loads in models.items()
        for load, ways in loads.items()
        for way, row in ((way, [model, load, way]) for way in ways)
    ]
    yield from table(('model', *heads, 'peak MB', 'points'), rows, left=3)


def _node_cells(way: str, ways: Result) -> list[str]:
    found = ways[way]
    times = '' if way == OURS else _times(found['median_ms'] / ways[OURS]['median_ms'])
    return [
        *(f'{found[key]:.1f}' for key in ('median_ms', 'p95_ms', 'p99_ms')),
        times,
        f'{found["frames_per_s"]:.1f}',
        f'{found["count"]} of {found["sent"]}',
        f'{found["cpu_percent"]:.0f}',
        f'{found["peak_rss_mb"]:.0f}',
        str(found['points']),
    ]
