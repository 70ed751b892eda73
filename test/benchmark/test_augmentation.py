"""The benchmarks of augmentation and of stages run from frames to a table, and stop when told."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import fixtures_boxes
import pytest

from benchmark import stage_cost
from benchmark.augmentation import __main__ as benchmark
from benchmark.augmentation.runs import load_variants
from cigocc_ros.core.errors import ConfigError, DataFileError
from cigocc_ros.training.config import AugmentConfig
from cigocc_ros.training.loop import Trainer


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A street to train on and another one, as sequence 05, to score."""
    folder = tmp_path_factory.mktemp('kitti')
    for name, seeds in (('05', (1,)), ('00', (0, 2))):
        written = fixtures_boxes.write_kitti_tree(folder, seeds, size=(104, 320))
        if name != '00':
            shutil.move(written, written.with_name(name))
    return folder


def words(root: Path, out: Path, *more: str) -> list[str]:
    given = ['--data', str(root), '--model', 'tiny', '--steps', '2', '--out', str(out)]
    return ['eyes', *given, '--cache', str(root / 'cache'), *more]


def test_every_variant_has_settings_of_its_own() -> None:
    variants = load_variants()
    settings = [variant.config for variant in variants.values()]
    assert len(set(settings)) == len(settings) == len(variants)
    assert variants['none'].config == AugmentConfig(turned=False)
    assert variants['turned'].config == AugmentConfig()


def test_runs_are_kept_and_become_a_table(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = words(root, tmp_path, '--variants', 'none', 'all')
    assert benchmark.main(chosen) == 0
    said = capsys.readouterr().out
    assert said.count('eyes/none-seed0: unseen none') == said.count('eyes/all-seed0') == 1
    result = json.loads((tmp_path / 'eyes/all-seed0.json').read_text())
    assert result['train']['augment']['zoom'] == 0.3
    assert result['frames'] == {'trained': 2, 'scored': 1}
    assert benchmark.main(chosen) == 0 and capsys.readouterr().out == ''
    assert benchmark.main(['table', '--out', str(tmp_path)]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith('| ')]
    assert [row.split(' | ')[0] for row in rows] == ['| variant', '| all', '| none']
    with pytest.raises(DataFileError, match='no run is finished'):
        benchmark.main(['table', '--out', str(tmp_path / 'none')])
    with pytest.raises(ConfigError, match='joint needs --truth'):
        benchmark.main(['joint', *words(root, tmp_path)[1:]])


def test_a_run_that_is_stopped_is_not_kept(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal ends training early and in good order: its scores would be those of fewer steps."""
    step = Trainer.step

    def stopped(self: Trainer, *args: Any, **more: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return step(self, *args, **more)

    monkeypatch.setattr(Trainer, 'step', stopped)
    with pytest.raises(SystemExit, match='stopped by SIGTERM'):
        benchmark.main(words(root, tmp_path, '--variants', 'none'))
    assert not list(tmp_path.glob('eyes/*.json'))


def test_every_stage_has_a_price(capsys: pytest.CaptureFixture[str]) -> None:
    assert stage_cost.main(['--model', 'tiny', '--passes', '1', '--precision', 'fp32']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(':')[0].split()[-1] for line in lines] == ['eyes', '1', '2', 'joint']
    assert float(lines[0].split(', ')[1].split()[0]) > 1
