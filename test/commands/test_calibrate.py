"""`cigocc calibrate`, then export, then evaluate: the numbers that were promised come out."""

import json

import pytest
from fixtures_evaluation import FRAMES, truth_of, write_arrays, write_images

from cigocc_ros.commands import main as dispatcher
from cigocc_ros.core.calibration import read_calibration
from cigocc_ros.core.manifest import load_manifest
from cigocc_ros.data.image_files import read_image
from cigocc_ros.model.weight_files import weights_sha256

PRIORS = ('none', 'stereo')


def run_verb(verb, *words):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dispatcher, 'VERBS', (verb,))
        return dispatcher.main([verb, *map(str, words)])


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp('data')
    return write_images(root / 'images'), write_arrays(root / 'truth')


@pytest.fixture(scope='module')
def calibrated(data, tiny_checkpoint, tmp_path_factory):
    """Return the file that a checkpoint was calibrated into, on both sequences and priors."""
    out = tmp_path_factory.mktemp('out') / 'calibration.yaml'
    images, truth = data
    words = [images, '--ground-truth', truth, '--model', tiny_checkpoint[0], '--out', out]
    assert run_verb('calibrate', *words, '--prior', *PRIORS, '--threads', 1) == 0
    return out


def test_the_file_says_what_it_is_of_and_what_it_does(calibrated, tiny_checkpoint):
    made = read_calibration(calibrated)
    assert made.frames == {'00': 2, '08': 2}
    assert made.facts['weights_sha256'] == weights_sha256(tiny_checkpoint[0])
    assert set(made.facts['priors']) == {*PRIORS, 'all'}
    assert made.temperature is not None and made.class_error is not None
    for error in (made.occupied_error, made.class_error):
        assert error.after < error.before and error.held_out < 0.1
    # of ~19 % of voxels that are occupied at random, no probability can say more than that
    occupied = sum((truth_of(key) % 255 > 0).sum() for key in FRAMES) / sum(
        (truth_of(key) != 255).sum() for key in FRAMES
    )
    assert made.occupied_error.after < 0.02 and 0 < made.threshold < 2 * occupied


def test_table_and_diagram_lie_beside_it(calibrated):
    text = calibrated.with_suffix('.md').read_text()
    assert '| none |' in text and '| stereo |' in text and '| all |' in text
    assert '| stereo | measured |' in text and '| none | seen |' in text
    assert '| none | measured |' not in text  # nothing was measured without a prior
    assert '## Occupied' in text and '## Class of occupied voxels' in text
    picture = read_image(calibrated.with_suffix('.png'))
    assert picture.shape[1] > 900 and len({tuple(p) for p in picture.reshape(-1, 3)}) > 20


def test_the_exported_model_does_what_was_promised(calibrated, data, tiny_checkpoint, tmp_path):
    made, (images, truth) = read_calibration(calibrated), data
    words = ['--checkpoint', tiny_checkpoint[0], '--out', tmp_path / 'm', '--gate-inputs', 1]
    assert run_verb('export', *words, '--calibration', calibrated) == 0
    assert load_manifest(tmp_path / 'm').calibration == made
    words = [images, '--ground-truth', truth, '--model', tmp_path / 'm', '--threads', 1]
    for prior in PRIORS:
        assert run_verb('evaluate', *words, '--prior', prior, '--out', tmp_path / prior) == 0
        report = json.loads((tmp_path / prior / 'evaluation.json').read_text())
        promised = made.facts['priors'][prior]
        found = report['reliability']['calibration_error']
        assert found == pytest.approx(promised['occupied']['after'], abs=0.005)
        assert found < 0.5 * promised['occupied']['before']
        assert report['scores']['51.2']['iou'] == pytest.approx(promised['iou_after'], abs=0.005)
        sure = report['class_reliability']
        assert sure['calibration_error'] == pytest.approx(promised['classes']['after'], abs=0.02)
        assert sure['share_right'] == pytest.approx(promised['classes_right'], abs=0.02)
        assert 'class_probability' in (tmp_path / prior / 'evaluation.md').read_text()
    # calibrated a second time there is nothing left to do, in terms of the same checkpoint
    again = tmp_path / 'again.yaml'
    words = [*words, '--prior', *PRIORS, '--out', again]
    assert run_verb('calibrate', *words) == 0
    second = read_calibration(again)
    assert second.temperature is None and second.class_error is None
    assert second.facts['weights_sha256'] == made.facts['weights_sha256']
    assert second.occupied_error.before < 0.02


def test_one_frame_cannot_be_fitted_and_judged(data, tiny_checkpoint, tmp_path, capsys):
    images, truth = data
    words = [images, '--ground-truth', truth, '--model', tiny_checkpoint[0], '--out']
    words += [tmp_path / 'c.yaml', '--prior', 'none', '--every']
    assert run_verb('calibrate', *words, 4) == 2
    assert 'two sequences at least' in capsys.readouterr().err
    assert run_verb('calibrate', *words, 0) == 2
    assert '--every: expected 1 or more' in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
