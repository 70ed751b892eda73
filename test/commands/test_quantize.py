"""`cigocc quantize`: which frames calibrate, which check, and what it refuses."""

import argparse

import numpy as np
import pytest
from fixtures_sequence import build_sequence
from fixtures_tiny_model import build_tiny_model_dir

from cigocc_ros.commands import main as dispatcher
from cigocc_ros.commands.quantize import frames_of


@pytest.fixture(scope='module')
def sequence(tmp_path_factory):
    return build_sequence(tmp_path_factory.mktemp('data') / '00', frames=7)


def quantize(*words):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dispatcher, 'VERBS', ('quantize',))
        return dispatcher.main(['quantize', *map(str, words), '--threads', '1'])


@pytest.mark.parametrize('count', [1, 2, 3])
def test_frames_that_check_are_none_that_calibrate(sequence, count):
    args = argparse.Namespace(data=sequence, frames=count, prior='none')
    calibrating, checking = (
        {arrays['image'].tobytes() for arrays in side} for side in frames_of(args, (48, 160))
    )
    assert (len(calibrating), len(checking)) == (count, 4)
    assert not calibrating & checking


def test_prior_reaches_the_network(sequence):
    args = argparse.Namespace(data=sequence, frames=1, prior='depth')
    calibrating, _ = frames_of(args, (48, 160))
    assert np.unique(calibrating[0]['depth_prior']).size > 1


def test_too_few_frames_are_refused(sequence, tmp_path, capsys):
    model = build_tiny_model_dir(tmp_path / 'model')
    assert quantize(sequence, '--model', model, '--out', tmp_path / 'o', '--frames', 4) == 2
    assert '7 frames found, --frames 4 needs' in capsys.readouterr().err
    assert not (tmp_path / 'o').exists()


def test_a_network_without_convolutions_is_refused(sequence, tmp_path, capsys):
    model = build_tiny_model_dir(tmp_path / 'model')
    assert quantize(sequence, '--model', model, '--out', tmp_path / 'o', '--frames', 3) == 2
    assert 'no convolution' in capsys.readouterr().err
    assert not (tmp_path / 'o').exists()


def test_modelopt_that_is_missing_is_said(sequence, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr('cigocc_ros.export.modelopt_route.has_modelopt', lambda: False)
    model = build_tiny_model_dir(tmp_path / 'model')
    words = ['--model', model, '--out', tmp_path / 'o', '--scales', 'modelopt']
    assert quantize(sequence, *words) == 2
    assert 'docs/quantization.md' in capsys.readouterr().err
