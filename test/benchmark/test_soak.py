"""One minute of the soak: memory, threads and descriptors flat, every image accounted for."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ElementTree

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('onnxruntime')

from fixtures_processes import process
from fixtures_tiny_model import build_tiny_model_dir

from benchmark.machine import MEASURED
from benchmark.soak.curves import Panel, draw
from benchmark.soak.report import is_good, markdown, picture
from benchmark.soak.verdict import accounts, flatness, warm
from cigocc_ros.core.markdown import marks

BEGIN, END = marks(MEASURED)


SECONDS = 60.0
WITHIN_S = 240.0


@pytest.fixture(scope='module')
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp('soak')
    model, out = build_tiny_model_dir(folder / 'model'), folder / 'soak.json'
    words = [sys.executable, '-m', 'benchmark.soak', '--minutes', str(SECONDS / 60)]
    words += ['--model', str(model), '--threads', '1', '--out', str(out)]
    words += ['--logs', str(folder / 'logs')]
    with process(words, folder / 'output.txt') as child:
        # 1 where it is not flat: latency need not be on a machine that does other things too
        assert child.wait(WITHIN_S) in (0, 1), (folder / 'output.txt').read_text()
    assert out.is_file(), (folder / 'output.txt').read_text()
    ElementTree.fromstring(out.with_suffix('.svg').read_text())
    return json.loads(out.read_text())


@pytest.mark.slow
def test_memory_threads_and_descriptors_stay_flat(result):
    assert result['samples'][-1]['t_s'] >= SECONDS - 1
    checks = {check.name: check for check in flatness(result['samples'])}
    for name in ('rss_mb', 'threads', 'fds', 'children'):
        assert checks[name].good, checks[name]
    assert checks['children'].late == 0 and checks['rss_mb'].early > 50
    assert checks['latency_p50_ms'].late > 0


@pytest.mark.slow
def test_every_image_is_accounted_for(result):
    counts = accounts(result)
    assert counts['sent'] > 100 and counts['unaccounted'] == 0 and counts['in flight'] == 0
    assert counts['frames in'] + counts['lost before the node'] == counts['sent']
    assert counts['dropped'] == 0
    assert 0 < counts['clouds heard'] <= counts['processed']


def sample(t_s, **changed):
    usual = {'rss_mb': 200.0, 'threads': 16, 'fds': 26, 'children': 0, 'cpu_percent': 90.0}
    usual |= {'clouds': 8, 'latency_p50_ms': 100.0, 'latency_p95_ms': 120.0}
    return {'t_s': t_s, **usual, **changed}


def run_of(samples, **counted):
    report = {'frames in': '100', 'processed': '60', 'replaced by a newer frame': '38'}
    report |= {'dropped': '2', 'in flight': '0', 'lost before the node': '5'}
    return {
        'samples': samples,
        'sent': 105,
        'heard': 60,
        'report': {**report, **counted},
        'messages': {'0 running': 9},
        'command': 'python -m benchmark.soak',
        'pace_ms': 80.0,
        'rate_hz': 18.0,
        'seconds': 600.0,
        'machine': {
            'processor': 'a processor',
            'cores': 2,
            'memory_gb': 8.0,
            'system': 'Linux',
            'python': '3.11',
            'packages': {},
            'commit': 'c0ffee',
            'date': '2026-01-01',
            'load_before': 0.1,
        },
    }


FLAT = [sample(10.0 * n) for n in range(1, 61)]


def test_a_flat_run_is_good():
    assert is_good(run_of(FLAT))
    assert [s['t_s'] for s in warm(FLAT)][0] == 130.0  # two minutes of ten


@pytest.mark.parametrize(
    ('name', 'per_sample'),
    [('rss_mb', 0.5), ('threads', 0.1), ('fds', 0.1), ('latency_p50_ms', 2.0)],
)
def test_a_leak_is_seen(name, per_sample):
    growing = [sample(10.0 * n, **{name: FLAT[0][name] + per_sample * n}) for n in range(1, 61)]
    assert not is_good(run_of(growing))
    assert [check.name for check in flatness(growing) if not check.good] == [name]
    assert is_good(run_of(growing), with_latency=False) == name.startswith('latency')


def test_a_lost_image_is_seen():
    missing = run_of(FLAT, **{'frames in': '99', 'processed': '59'})
    assert accounts(missing)['unaccounted'] == 1 and not is_good(missing)
    assert not is_good(run_of(FLAT, **{'processed': '59', 'in flight': '1'}))


def test_the_page_says_what_was_found():
    text = markdown(run_of(FLAT), 'soak.svg')
    assert '![curves over time](soak.svg)' in text and '0 unaccounted' in text
    assert '= 5 + 60 + 38 + 2 + 0' in text and BEGIN not in text and END not in text
    assert '**no**' in markdown(run_of([*FLAT, *[sample(700.0, fds=40)] * 30]), 'soak.svg')


def test_curves_have_gaps_where_nothing_was_measured():
    values = [1.0, 2.0, float('nan'), 3.0]
    svg = draw([0, 1, 2, 3], [Panel('a <b>', {'x': values})], 0.5)
    root = ElementTree.fromstring(svg)
    lines = [node for node in root.iter() if node.tag.endswith('polyline')]
    assert [len(line.attrib['points'].split()) for line in lines] == [2, 1]
    assert ElementTree.fromstring(picture(run_of(FLAT))) is not None
