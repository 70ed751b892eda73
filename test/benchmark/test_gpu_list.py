"""The GPU list: its control flow with fakes, its torch parts for real on the CPU."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fixtures_boxes import write_kitti_tree
from fixtures_engine import build_golden_model_dir

from benchmark.gpu import __main__ as command
from benchmark.gpu import child, device, latency, networks, parts
from benchmark.gpu.floor import count_stages, floor_ms
from benchmark.gpu.latency import WHOLE
from benchmark.gpu.numerics import own_inputs
from benchmark.gpu.plan import (
    ABSENT,
    FAILED,
    LATE,
    NOT_STARTED,
    OK,
    Outcome,
    Step,
    _with_parts,
    run_plan,
)
from benchmark.gpu.report import markdown
from benchmark.machine import MEASURED
from benchmark.speed.measure import OTHER
from cigocc_ros.core.config import load_model_config
from cigocc_ros.core.markdown import marks
from cigocc_ros.model import geometry
from cigocc_ros.model.build import build_model
from cigocc_ros.model.cost import FLOP_PER_MAC, measure_cost
from cigocc_ros.model.output import ExportModel

BEGIN, END = marks(MEASURED)


FAST_CHILD = """
import json, os, sys, time
words = sys.argv[sys.argv.index('benchmark.gpu.child') + 1 :]
assert words[-2].startswith("--left-s=")
result = words[-1].partition('=')[2]
open(result, 'w').write(json.dumps({'said': words[0]}))
if words[0] == 'crash': os.abort()
if words[0] == 'raise': sys.exit('broken driver')
if words[0] == 'absent': sys.stderr.write('no library'); sys.exit(3)
if words[0] == 'hang': time.sleep(600)
"""


@pytest.fixture
def fast_python(tmp_path: Path) -> str:
    """Return an interpreter that plays a step without importing torch."""
    script = tmp_path / 'child.py'
    script.write_text(FAST_CHILD)
    python = tmp_path / 'python'
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S {script} "$@"\n')
    python.chmod(0o755)
    return str(python)


def run(tmp_path: Path, fast_python: str, budget_s: float, *kinds: str, least_s: float = 0.0):
    saved: list[int] = []
    steps = [Step(kind, (kind,), least_s, fast_python) for kind in kinds]
    outcomes = run_plan(steps, tmp_path / 'steps', budget_s, lambda o: saved.append(len(o)))
    assert saved == list(range(1, len(kinds) + 1))
    return {outcome.name: outcome for outcome in outcomes}


def test_a_step_that_crashes_fails_or_lacks_something_costs_only_itself(tmp_path, fast_python):
    found = run(tmp_path, fast_python, 60.0, 'fine', 'crash', 'raise', 'absent', 'last')
    assert [found[name].status for name in found] == [OK, FAILED, FAILED, ABSENT, OK]
    assert 'broken driver' in found['raise'].reason and found['absent'].reason == 'no library'
    assert found['crash'].found == {'said': 'crash'}, 'what it had measured is kept'


def test_a_step_that_hangs_is_ended_and_later_ones_are_not_started(tmp_path, fast_python):
    started_s = time.monotonic()
    steps = [Step(kind, (kind,), 1.0, fast_python) for kind in ('hang', 'late')]
    hung, late = run_plan(steps, tmp_path, 2.0, lambda _: None)
    assert (hung.status, late.status) == (LATE, NOT_STARTED)
    assert time.monotonic() - started_s < 30 and hung.found == {'said': 'hang'}


def test_a_step_without_its_interpreter_is_not_here(tmp_path):
    (outcome,) = run_plan([Step('x', ('x',), 0.0, '/no/python')], tmp_path, 9.0, lambda _: None)
    assert outcome.status == ABSENT and 'No such file' in outcome.reason


def run_step(tmp_path: Path, step: str, *words: str) -> tuple[int, dict]:
    result = tmp_path / f'{step}.json'
    code = child.main([step, f'--result={result}', *words])
    return code, json.loads(result.read_text()) if result.is_file() else {}


def run_parts(tmp_path: Path, *parts: str, **options: object) -> dict[str, dict]:
    words = ['--device=cpu', '--config=tiny', '--runs=2', '--left-s=600']
    words += [f'--{name.replace("_", "-")}={value}' for name, value in options.items()]
    code, found = run_step(tmp_path, 'network', *words, '--parts', *parts)
    assert code == 0
    return {part['name']: part for part in found['parts']}


def test_one_process_measures_a_network_part_by_part(tmp_path: Path):
    found = run_parts(tmp_path, 'device', 'floor', 'torch fp32', 'torch fp16', count=1)
    assert list(found) == ['device', 'floor tiny', 'torch tiny fp32', 'torch tiny fp16']
    assert all((part['status'], part['reason']) == (OK, '') for part in found.values())
    assert found['device']['found']['peaks']['bytes_per_s'] > 0
    for precision in ('fp32', 'fp16'):
        modes = found[f'torch tiny {precision}']['found']['modes']
        eager = modes['eager']
        assert {WHOLE, 'backbone', 'unet', 'lift', 'cignet', 'head'} <= set(eager)
        assert all(part['count'] == 2 and part['median_ms'] > 0 for part in eager.values())
        assert all('need a CUDA device' in part['error'] for part in modes['graph'].values())


def test_a_part_that_fails_or_comes_too_late_costs_only_itself(tmp_path: Path, monkeypatch):
    def broken(args):
        raise RuntimeError('driver is gone')

    monkeypatch.setitem(parts.PARTS, 'device', parts._whole(broken))
    monkeypatch.setitem(parts.PARTS, 'numerics', parts.PARTS['numerics']._replace(least_s=1e9))
    found = run_parts(tmp_path, 'device', 'numerics', 'floor')
    assert [part['status'] for part in found.values()] == [FAILED, NOT_STARTED, OK]
    assert found['device']['reason'] == 'RuntimeError: driver is gone'
    assert 'at least 1000000000 s needed' in found['numerics tiny']['reason']
    (outcome,) = _with_parts(Outcome('network tiny', LATE, 'stopped', 9.0, {}))
    assert outcome.name == 'network tiny'
    half = {'parts': [{'name': 'floor tiny', 'found': {'a': 1}}]}
    part, outcome = _with_parts(Outcome('network tiny', LATE, 'stopped', 9.0, half))
    assert (part.name, part.status, part.found) == ('floor tiny', LATE, {'a': 1})
    assert outcome.found == {}, 'the parts are outcomes of their own'


def test_the_part_that_ran_when_its_process_was_ended_is_named(monkeypatch):
    saved = []

    def killed(args):
        raise SystemExit

    monkeypatch.setitem(parts.PARTS, 'device', parts._whole(killed))
    args = child._parser().parse_args(['network', '--result=x', '--parts', 'floor', 'device'])
    args.config = 'tiny'
    with pytest.raises(SystemExit):
        parts.run_parts(args, lambda found: saved.append(json.dumps(found)))
    found = _with_parts(Outcome('network tiny', LATE, 'stopped', 9.0, json.loads(saved[-1])))
    assert [(one.name, one.status) for one in found] == [
        ('floor tiny', OK),
        ('device', LATE),
        ('network tiny', LATE),
    ]


def test_a_compiled_network_is_one_graph_and_timed_without_stages(tmp_path: Path, monkeypatch):
    whole = networks.open_network('tiny', None, 'cpu')
    whole.forward = lambda *inputs: whole.model.backbone(inputs[0])  # all would take 14 s
    monkeypatch.setattr(latency, 'open_network', lambda *_: whole)
    (found,) = run_parts(tmp_path, 'compiled fp16 whole', compiler='eager').values()
    modes = found['found']['modes']
    assert list(modes['compiled']) == [WHOLE]
    assert modes['compiled'][WHOLE]['prepared_s'] > 0 and modes['compiled'][WHOLE]['graphs'] == 1


def test_without_cuda_the_parts_are_not_here(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    found = run_parts(tmp_path, 'device', 'torch fp16', 'floor', device='cuda')
    assert [part['status'] for part in found.values()] == [ABSENT, ABSENT, OK]
    assert 'sees no CUDA device' in found['device']['reason']


def test_bandwidth_is_of_numbers_that_do_not_compress(monkeypatch):
    monkeypatch.setattr(device, 'timed', lambda run, *_: (run(), [1.0])[1])
    made = []
    random = torch.rand
    monkeypatch.setattr(torch, 'rand', lambda *w, **k: made.append(random(*w, **k)) or made[-1])
    assert device._copy_rate('cpu') > 0
    assert len(made) == 1 and made[0].unique().numel() > 1e5


def test_numerics_compare_the_same_frames(tmp_path: Path):
    write_kitti_tree(tmp_path / 'kitti', (2,), (48, 160))
    (part,) = run_parts(tmp_path, 'numerics', frames=tmp_path / 'kitti', count=1).values()
    found = part['found']
    assert found['num_frames'] == 1 and found['all_finite'] and found['weights'] == 'random'
    assert 0.9 < found['labels'] <= 1.0 and found['frames'].startswith('kitti')
    (part,) = run_parts(tmp_path, 'numerics', frames=tmp_path / 'none').values()
    assert part['status'] == ABSENT


def test_numerics_need_no_file_but_those_of_the_repository(tmp_path: Path):
    (part,) = run_parts(tmp_path, 'numerics', count=2).values()
    assert part['found']['num_frames'] == 2 and 'of the repository' in part['found']['frames']
    stored, *made_up = own_inputs(load_model_config('mid'))
    assert made_up and stored['image'].shape == made_up[0]['image'].shape == (1, 192, 640, 3)


def test_the_floor_counts_what_the_network_computes():
    found = count_stages('tiny')
    total = sum(stage['flops'] for stage in found['stages'].values())
    cost = measure_cost(load_model_config('tiny'))
    assert total // FLOP_PER_MAC == cost.macs and found['parameters'] == cost.parameters
    assert all(
        found['stages'][name]['bytes'] > 0 for name in ('backbone', 'unet', 'cignet', OTHER)
    )
    peaks = {'fp16_flops': 1e12, 'fp32_flops': 5e11, 'bytes_per_s': 1e11}
    assert floor_ms({'flops': 2e9, 'bytes': 1e8}, peaks) == 2.0
    assert floor_ms({'flops': 2e9, 'bytes': 1e9}, peaks) == 10.0


def test_tensorrt_is_built_checked_and_timed(tmp_path: Path, fake_gpu):
    model = build_golden_model_dir(tmp_path / 'model')
    words = (f'--model={model}', f'--work={tmp_path / "engines"}', '--runs=3')
    code, found = run_step(tmp_path, 'tensorrt', *words)
    assert code == 0 and found['built'] and found['gpu']['name'] == 'Fake GPU'
    for way in ('cuda graph', 'kernels one by one'):
        assert found[way]['count'] == 3 and found[way]['golden_agreement'] == 1.0
    assert 'cuGraphLaunch' in fake_gpu.cuda.names()
    assert not run_step(tmp_path, 'tensorrt', *words)[1]['built'], 'the engine was there'


def test_an_engine_that_answers_wrong_is_no_result(tmp_path: Path, fake_gpu, monkeypatch):
    model = build_golden_model_dir(tmp_path / 'model')
    monkeypatch.setattr(fake_gpu.trt, 'wrong_by', 1)
    with pytest.raises(Exception, match='self-check failed'):
        run_step(tmp_path, 'tensorrt', f'--model={model}', f'--work={tmp_path / "engines"}')
    assert 'cuda graph' not in json.loads((tmp_path / 'tensorrt.json').read_text())


def test_the_list_goes_through_on_a_machine_without_gpu(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    page, out = tmp_path / 'gpu.md', tmp_path / 'gpu.json'
    page.write_text(f'{BEGIN}\n{END}\n')
    words = [f'--out={out}', f'--work={tmp_path / "work"}', '--only', 'tensorrt mid']
    assert command.main([*words, f'--page={page}', '--budget-s=100']) == 0
    (step,) = json.loads(out.read_text())['steps']
    assert step['status'] == ABSENT and step['reason']
    assert 'No TensorRT engine was timed' in page.read_text()
    assert page.read_text() == f'{BEGIN}\n{capsys.readouterr().out.rstrip()}\n{END}\n'


def test_the_list_holds_every_kind_of_step_the_most_wanted_first():
    args = command._parser().parse_args(['--out=x', '--checkpoints', 'mid=runs/mid/best'])
    steps = command.planned(args)
    names = [step.name for step in steps]
    assert names[:3] == ['tensorrt mid', 'network full', 'network mid']
    assert names.index('export full') < names.index('tensorrt full_random')
    wanted = {part for step in steps[1:3] for part in step.words if part in parts.PARTS}
    assert wanted == set(parts.PARTS)
    trained = [step.name for step in steps if '--checkpoint=runs/mid/best' in step.words]
    assert trained == ['network mid']
    for step in steps:
        child._parser().parse_args([*step.words, '--left-s=1', '--result=x'])


def test_quick_gives_the_facts_of_the_small_network_first():
    args = command._parser().parse_args(['--out=x', '--quick'])
    small, large = command.planned(args)
    assert (small.name, large.name) == ('network mid', 'network full')
    facts = ('device', 'torch fp16', 'numerics', 'compiled fp16 whole', 'compiled fp16 stages')
    assert set(facts) <= set(small.words) and 'compiled fp16 whole' not in large.words
    assert not any('--frames' in word for step in (small, large) for word in step.words)


def test_quick_keeps_its_time(tmp_path: Path, monkeypatch):
    seen = []
    monkeypatch.setattr(command, 'run_plan', lambda *words: seen.append(words[2]))
    args = command._parser().parse_args([f'--out={tmp_path / "x"}', '--quick'])
    command._measured(args)
    assert seen == [95.0] and args.runs == 50


def test_the_page_gives_tensorrt_figures_only_where_it_ran():
    timing = {'median_ms': 4.0, 'p95_ms': 4.1, 'p99_ms': 4.2, 'golden_agreement': 0.9987}
    engine = {
        'model': 'mid',
        'library': 'TensorRT-RTX 1.4',
        'precision': 'mixed_fp16',
        'gpu': {'name': 'a GPU'},
        'built': True,
        'build_s': 30.0,
        'engine_mb': 12.5,
        'cuda graph': timing,
    }
    stage = {'flops': 1e9, 'bytes': 1e9}
    timed = {'median_ms': 3.0}
    found = {
        'device': {
            'name': 'a GPU',
            'torch': '2.13',
            'peaks': {'fp16_flops': 1e14, 'fp32_flops': 1e13, 'bytes_per_s': 1e12},
        },
        'floor full': {'stages': {'unet': stage, OTHER: stage}},
        'torch full fp16': {
            'weights': 'random',
            'memory_mb': 900,
            'modes': {'eager': {WHOLE: timed, 'unet': {'error': 'RuntimeError: x'}}},
        },
        'tensorrt mid': engine,
    }
    result = {'machine': machine_of_page(), 'steps': [outcome(n, f) for n, f in found.items()]}
    text = markdown(result)
    assert '| 99.87 % | 4.00 |' in text and 'No TensorRT' not in text
    assert 'Best 3.00 ms, 1.5 times the floor (at most 2 aimed at: met)' in text
    assert 'fp16 eager: RuntimeError: x (unet)' in text
    del engine['cuda graph']
    assert 'No TensorRT engine was timed' in markdown(result) and '4.00' not in markdown(result)


def outcome(name: str, found: dict) -> dict:
    return {'name': name, 'status': OK, 'reason': '', 'seconds': 1.0, 'found': found}


def machine_of_page() -> dict:
    facts = {'processor': 'a CPU', 'cores': 2, 'memory_gb': 4, 'system': 'Linux', 'python': '3.11'}
    rest = {'packages': {}, 'commit': 'abc', 'date': '2026-01-01', 'load_before': 0.0}
    return {**facts, **rest}


@pytest.mark.parametrize('lifting', ['gather', 'scatter'])
def test_a_recorded_graph_copies_nothing_from_the_host(monkeypatch, lifting):
    config = replace(load_model_config('tiny'), lifting=lifting)
    torch.manual_seed(0)
    network = ExportModel(build_model(config))
    inputs = networks.example(network, 'cpu')
    with torch.inference_mode():
        expected = network(*inputs)
        monkeypatch.setattr(geometry, '_fills', lambda _: True)
        monkeypatch.setattr(torch, 'tensor', None)
        found = network(*inputs)
    assert all(torch.equal(*pair) for pair in zip(expected, found, strict=True))
