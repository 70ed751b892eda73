"""The measurement of speed runs, and its page says what was found."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('rclpy')

from fixtures_ros import domain_id

from benchmark.machine import MEASURED
from benchmark.speed import __main__ as command
from benchmark.speed import engines, stages, steps
from benchmark.speed.measure import OTHER, interleaved, summary
from benchmark.speed.node import run_nodes
from benchmark.speed.report import markdown
from benchmark.speed.scene import stored_answers, street
from benchmark.speed.subjects import Network, prepare
from cigocc_ros.core.errors import DataFileError, EngineError
from cigocc_ros.core.frames import CameraFrame
from cigocc_ros.core.markdown import marks, write_into
from cigocc_ros.replay.processes import ros_environment
from cigocc_ros.ros.output.clouds import header
from cigocc_ros.runtime.random_frames import random_frame, random_inputs

BEGIN, END = marks(MEASURED)


SHAPE = (32, 32, 8)
OCCUPIED = 1500
HEAD = header(1_500_000_000, 'velo_link')


@pytest.fixture(scope='module')
def frame() -> CameraFrame:
    return random_frame(np.random.default_rng(0), 1)


@pytest.fixture
def occupancy():
    return street(SHAPE, OCCUPIED)


def test_the_street_has_as_many_voxels_as_asked_and_several_classes(occupancy):
    assert occupancy.occupied.sum() == OCCUPIED
    assert len(np.unique(occupancy.labels)) == 4


def test_every_case_has_its_turn_in_every_round():
    calls: list[str] = []
    cases = {name: lambda name=name: calls.append(name) for name in 'ab'}
    times = interleaved(cases, 3)
    assert calls == ['a', 'b'] * 5
    assert [len(ms) for ms in times.values()] == [3, 3]
    found = summary([1.0, 3.0, 2.0])
    assert (found['median_ms'], found['min_ms'], found['count']) == (2.0, 1.0, 3)


def test_time_without_a_stage_goes_to_the_one_before():
    named = [('relu', 1.0), ('@unet@3', 4.0), ('Reorder', 2.0), ('@head@x_nchwc', 8.0)]
    assert stages._by_stage(named, 2) == {OTHER: 0.5, 'unet': 3.0, 'head': 4.0}


def test_every_step_is_timed(frame):
    sent = []
    setting = steps.Setting('small', (48, 160), SHAPE, OCCUPIED, replace(frame, depth_m=None))
    results = steps.run_steps(setting, 1, (sent.append, sent.append))
    assert {steps.PATH, steps.PATH_MARKERS} <= set(results)
    assert len(results) == 9 and all(found['count'] == 1 for found in results.values())
    assert len(sent) == 9  # three turns of one and two messages


def test_an_engine_is_timed_in_a_process_of_its_own_and_by_stage(tmp_path: Path, monkeypatch):
    network = prepare('tiny', tmp_path)
    monkeypatch.setattr(engines, 'prepare', lambda *_: network)
    monkeypatch.setattr(engines, 'backends', lambda: ['onnxruntime'])
    (tmp_path / 'benchmark.py').write_text('raise ImportError')  # as onnxruntime brings one
    monkeypatch.syspath_prepend(tmp_path)
    found = engines.run_engines(['tiny'], tmp_path, 1, 2)['tiny']['backends']['onnxruntime']
    assert found['count'] == 2 and found['peak_rss_mb'] > 50
    frames = itertools.cycle(random_inputs((48, 160), 2, 0))
    by_torch = stages.of_torch(network.checkpoint_dir, frames, 1)
    for spent in (found['stages_ms'], by_torch):
        assert {'backbone', 'unet', 'lift', 'cignet', 'head', OTHER} <= set(spent)
        assert min(spent.values()) >= 0


def test_an_engine_that_ends_is_an_error(tmp_path: Path):
    network = Network('none', tmp_path, tmp_path, tmp_path / 'model.onnx', shipped=False)
    with (
        pytest.raises(EngineError, match='ended'),
        engines.EngineProcess('onnxruntime', network, 1),
    ):
        pass


def test_the_node_answers_over_dds(tmp_path: Path, frame, monkeypatch):
    for name, value in ros_environment(domain_id()).items():
        if name.startswith(('ROS', 'FAST')):
            monkeypatch.setenv(name, value)  # set again by the run, undone after the test
    model = stored_answers(tmp_path / 'stored', (48, 160), street(SHAPE, OCCUPIED))
    (loads,) = run_nodes({'stored': model}, replace(frame, depth_m=None), 1, 1, 0.3).values()
    for found in loads.values():
        assert found['points'] == OCCUPIED
        assert 0 < found['count'] <= found['sent']
        assert found['min_ms'] > 0 and found['peak_rss_mb'] > 50


def test_the_page_says_what_was_found(tmp_path: Path, frame, capsys):
    setting = steps.Setting('small', (48, 160), SHAPE, OCCUPIED, replace(frame, depth_m=None))
    machine = {
        'processor': 'a CPU',
        'cores': 2,
        'memory_gb': 4,
        'system': 'Linux',
        'python': '3.11',
        'packages': {'numpy': '2'},
        'commit': None,
        'date': '2026-01-01',
        'load_before': 3.0,
    }
    result = {
        'machine': machine,
        'command': 'x',
        'seconds': 1.0,
        'threads': 1,
        'steps': {'small': steps.run_steps(setting, 1, (lambda _: None, lambda _: None))},
    }
    assert '**Other programs ran beside' in markdown(result)
    machine['load_before'] = 0.1
    result['steps']['small'][steps.PATH]['median_ms'] = 10.5
    text = markdown(result)
    assert 'Other programs' not in text and '| at most 10 ms | 10.5 ms | no |' in text
    (tmp_path / 'speed.json').write_text(json.dumps(result))
    page = tmp_path / 'page.md'
    page.write_text(f'before\n{BEGIN}\nold\n{END}\nafter\n')
    words = ['--rewrite', f'--out={tmp_path / "speed.json"}', f'--page={page}']
    assert command.main(words) == 0
    assert capsys.readouterr().out == text
    assert page.read_text() == f'before\n{BEGIN}\n{text.rstrip()}\n{END}\nafter\n'
    page.write_text('no marks')
    with pytest.raises(DataFileError, match='marks'):
        write_into(page, {MEASURED: text})
