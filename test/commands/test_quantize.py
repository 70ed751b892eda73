"""`cigocc quantize`: which frames calibrate, which check, and what it refuses."""

import numpy as np
import pytest
from fixtures_sequence import build_sequence
from fixtures_tiny_model import build_tiny_model_dir, say_trained

from cigocc_ros.commands import main as dispatcher
from cigocc_ros.core.errors import ConfigError
from cigocc_ros.data.camera_frames import DataFrames
from cigocc_ros.export.int8_folder import calibration_frames


@pytest.fixture(scope='module')
def sequence(tmp_path_factory):
    return build_sequence(tmp_path_factory.mktemp('data') / '00', frames=7)


def quantize(*words):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dispatcher, 'VERBS', ('quantize',))
        return dispatcher.main(['quantize', *map(str, words), '--threads', '1'])


@pytest.mark.parametrize('count', [1, 2, 3])
def test_frames_that_check_are_none_that_calibrate(sequence, count):
    data = DataFrames(sequence, 'none')
    chosen = calibration_frames(len(data), count, 'here')
    calibrating, checking = ({data[index].image.tobytes() for index in side} for side in chosen)
    assert (len(calibrating), len(checking)) == (count, 4)
    assert not calibrating & checking


def test_prior_reaches_the_network(sequence, tmp_path, monkeypatch):
    given = []

    def quantized(source, out, frames, held_out, options):
        given.extend([*frames, *held_out])
        raise ConfigError('enough')

    monkeypatch.setattr('cigocc_ros.export.int8_folder.quantize_folder', quantized)
    model = build_tiny_model_dir(tmp_path / 'model')
    words = ['--model', model, '--out', tmp_path / 'o', '--frames', 1, '--prior']
    assert quantize(sequence, *words, 'depth') == quantize(sequence, *words, 'none') == 2
    assert len(given) == 2 * 5
    assert all(np.unique(arrays['depth_prior']).size > 1 for arrays in given[:5])
    assert not any(arrays['depth_prior'].any() for arrays in given[5:])


def test_frames_are_matched_as_the_model_was_trained(sequence, tmp_path, monkeypatch):
    given = []

    def quantized(source, out, frames, held_out, options):
        given.append(frames[0]['depth_prior'])
        raise ConfigError('enough')

    monkeypatch.setattr('cigocc_ros.export.int8_folder.quantize_folder', quantized)
    model = build_tiny_model_dir(tmp_path / 'model')
    words = ['--model', model, '--out', tmp_path / 'o', '--frames', 1, '--prior', 'stereo']
    quantize(sequence, *words)
    say_trained(model, stereo_offset_px=5.0)
    quantize(sequence, *words)
    plain, offset = (depth[depth > 0] for depth in given)
    assert np.median(offset) < 0.8 * np.median(plain)


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
