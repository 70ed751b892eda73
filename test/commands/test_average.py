"""`cigocc average` writes the mean of checkpoints of one training, and says of which."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fixtures_tiny_model import TINY_CONFIG

from cigocc_ros.commands.main import main
from cigocc_ros.model.build import (
    build_model,
    load_checkpoint,
    read_checkpoint_record,
    save_checkpoint,
)
from cigocc_ros.model.weight_files import weights_sha256


def saved(folder: Path, seed: int, config=TINY_CONFIG, **record: object) -> Path:
    torch.manual_seed(seed)
    model = build_model(config)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                value.add_(0.1 * torch.randn_like(value).abs())
            elif name.endswith('num_batches_tracked'):
                value.fill_(seed)
    save_checkpoint(model, folder, {name: json.dumps(value) for name, value in record.items()})
    return folder


@pytest.fixture
def three(tmp_path: Path) -> list[Path]:
    return [
        saved(tmp_path / f'joint-{step:06d}', step, step=step, stage='joint', scores={'iou': 0.4})
        for step in (1, 2, 5)
    ]


def average(*words: object) -> int:
    return main(['average', *map(str, words)])


def test_each_weight_is_the_mean(three: list[Path], tmp_path: Path, capsys) -> None:
    assert average(*three, '--out', tmp_path / 'mean') == 0
    assert 'mean of 3 checkpoints, steps 1, 2, 5' in capsys.readouterr().out
    found = load_checkpoint(tmp_path / 'mean').state_dict()
    states = [load_checkpoint(folder).state_dict() for folder in three]
    for name, value in found.items():
        each = [state[name] for state in states]
        if value.is_floating_point():
            expected = sum(one.double() for one in each) / 3
            torch.testing.assert_close(value.double(), expected, rtol=1e-6, atol=1e-7)
        else:
            assert value.equal(each[-1]), name
    assert any(not value.equal(states[0][name]) for name, value in found.items())


def test_it_says_of_what_it_is_the_mean(three: list[Path], tmp_path: Path) -> None:
    assert average(*three, '--out', tmp_path / 'mean') == 0
    record = read_checkpoint_record(tmp_path / 'mean')
    assert record['stage'] == 'joint' and record['step'] == 5
    assert 'scores' not in record and 'progress' not in record  # those are of one of them
    assert record['averaged'] == [
        {'step': step, 'weights_sha256': weights_sha256(folder)}
        for step, folder in zip((1, 2, 5), three, strict=True)
    ]


def test_what_cannot_be_averaged_is_told(three: list[Path], tmp_path: Path, capsys) -> None:
    def refused(*words: object) -> str:
        assert average(*words, '--out', tmp_path / 'mean') == 2
        assert not (tmp_path / 'mean').exists()
        return str(capsys.readouterr().err)

    assert 'two checkpoints at least' in refused(three[0])
    assert 'each named once' in refused(three[0], three[1], tmp_path / 'x' / '..' / three[0].name)
    other = saved(tmp_path / 'other', 3, replace(TINY_CONFIG, class_evidence='gated'))
    assert 'other: expected a network of the config of' in refused(three[0], other)
    broken = load_checkpoint(three[1])
    with torch.no_grad():
        next(broken.parameters()).fill_(float('nan'))
    save_checkpoint(broken, tmp_path / 'broken')
    assert 'not finite' in refused(three[0], tmp_path / 'broken')
    assert average(*three, '--out', three[1]) == 2
    assert 'would be overwritten' in capsys.readouterr().err
