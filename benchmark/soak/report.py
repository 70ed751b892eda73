"""The page of a soak."""

from __future__ import annotations

from typing import Any

from benchmark.machine import machine_lines
from benchmark.soak.curves import Panel, draw
from benchmark.soak.verdict import accounts, flatness, warm
from cigocc_ros.core.markdown import table

MESSAGES_SHOWN = 8
TITLES = {
    'rss_mb': 'memory (resident), MiB',
    'threads': 'threads',
    'fds': 'file descriptors',
    'children': 'child processes',
    'latency_p50_ms': 'latency, median, ms',
    'latency_p95_ms': 'latency, p95, ms',
}


def markdown(result: dict[str, Any], picture: str) -> str:
    """Return the generated part of the page; `picture` is the name of the SVG beside it."""
    checks, counts = flatness(result['samples']), accounts(result)
    rows = [
        [TITLES[c.name], f'{c.early:g}', f'{c.late:g}', f'{c.limit:g}', _word(c.good)]
        for c in checks
    ]
    lines = [
        f'Command: `{result["command"]}`',
        '',
        *machine_lines(result['machine']),
        '',
        f'Model {result["report"].get("model id", "?")} on '
        f'{result["report"].get("backend", "?")}; an answer took {result["pace_ms"]:g} ms before; '
        f'{result["rate_hz"]:g} images a second for {result["seconds"] / 60:.1f} minutes.',
        '',
        f'![curves over time]({picture})',
        '',
        *table(['after the warm-up', 'first third', 'last third', 'limit', 'flat'], rows),
        '',
        *table(['images', 'count'], [[name, str(count)] for name, count in counts.items()]),
        '',
        _sum_line(counts),
        '',
        *table(
            ['reports of /diagnostics (level, message)', 'count'],
            [[text, str(result['messages'][text])] for text in _commonest(result['messages'])],
        ),
    ]
    return '\n'.join(lines) + '\n'


def picture(result: dict[str, Any]) -> str:
    """Return the curves as SVG."""
    samples = result['samples']
    minutes = [sample['t_s'] / 60 for sample in samples]

    def series(*names: str) -> dict[str, list[float]]:
        return {name: [sample[name] for sample in samples] for name in names}

    panels = [
        Panel('memory, MiB', series('rss_mb')),
        Panel('threads and file descriptors', series('threads', 'fds')),
        Panel('latency image to cloud, ms', series('latency_p50_ms', 'latency_p95_ms')),
        Panel('clouds a sample', series('clouds')),
        Panel('processor, % of one core', series('cpu_percent')),
    ]
    return draw(minutes, panels, warm(samples)[0]['t_s'] / 60)


def is_good(result: dict[str, Any], with_latency: bool = True) -> bool:
    """Say whether all curves are flat and nothing is unaccounted for."""
    checks = [c for c in flatness(result['samples']) if with_latency or 'latency' not in c.name]
    counts = accounts(result)
    return all(c.good for c in checks) and counts['unaccounted'] == counts['in flight'] == 0


def _commonest(messages: dict[str, int]) -> list[str]:
    return sorted(messages, key=lambda text: -messages[text])[:MESSAGES_SHOWN]


def _word(good: bool) -> str:
    return 'yes' if good else '**no**'


def _sum_line(counts: dict[str, int]) -> str:
    names = ('processed', 'replaced by a newer frame', 'dropped', 'in flight')
    parts = ' + '.join(str(counts[name]) for name in ('lost before the node', *names))
    return (
        f'Sent {counts["sent"]} = lost + processed + replaced + dropped + in flight = {parts}; '
        f'{counts["unaccounted"]} unaccounted.'
    )
