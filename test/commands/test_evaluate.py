"""`cigocc evaluate` and `cigocc submit` on generated mini sequences."""

import json

import numpy as np
import pytest
from fixtures_evaluation import FRAMES, truth_of, write_arrays, write_images, write_predictions
from fixtures_tiny_model import build_tiny_model_dir

from cigocc_ros.commands import main as dispatcher
from cigocc_ros.core.labels import train_from_raw
from cigocc_ros.core.manifest import load_manifest
from cigocc_ros.data.kitti_files import read_voxel_labels
from cigocc_ros.evaluation.metrics import SscMetrics
from cigocc_ros.evaluation.submission import member_name


@pytest.fixture(scope='module')
def model_dir(tmp_path_factory):
    return build_tiny_model_dir(tmp_path_factory.mktemp('models') / 'handmade')


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp('images'))


@pytest.fixture(scope='module')
def truth(tmp_path_factory):
    return write_arrays(tmp_path_factory.mktemp('truth'))


@pytest.fixture(scope='module')
def submission(model_dir, images, tmp_path_factory):
    out = tmp_path_factory.mktemp('submission')
    assert submit(images, '--out', out, '--model', model_dir, '--prior', 'none') == 0
    return out


def run_verb(verb, *words):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dispatcher, 'VERBS', (verb,))
        return dispatcher.main([verb, *map(str, words)])


def submit(*words):
    return run_verb('submit', *words, '--threads', '1', '--sequences', '00', '08')


def test_perfect_files_score_100(truth, tmp_path, capsys):
    write_predictions(tmp_path / 'p', perfect=True)
    words = ['--predictions', tmp_path / 'p', '--name', 'oracle', '--out', tmp_path / 'out']
    assert run_verb('evaluate', truth, *words) == 0
    assert '| 51.2 | 100.00 | 100.00 | 100.00 | 100.00 |' in capsys.readouterr().out
    report = json.loads((tmp_path / 'out' / 'evaluation.json').read_text())
    assert report['subject']['model'] == 'oracle'
    assert report['subject']['backend'] == report['subject']['depth_prior'] == 'not recorded'
    assert report['frames'] == {'00': 2, '08': 2}


def test_model_scores_are_those_of_its_files(
    model_dir, images, truth, submission, tmp_path, capsys
):
    words = ['--ground-truth', truth, '--model', model_dir, '--prior', 'none', '--threads', 1]
    assert run_verb('evaluate', images, *words, '--out', tmp_path / 'a') == 0
    report = json.loads((tmp_path / 'a' / 'evaluation.json').read_text())
    expected = SscMetrics()
    for key in FRAMES:
        raw = read_voxel_labels(submission / member_name(key))
        expected.update(train_from_raw(raw), truth_of(key))
    assert expected.compute().iou > 0.01
    assert report['scores']['51.2']['iou'] == expected.compute().iou
    assert report['scores']['51.2']['iou_per_class'] == expected.compute().by_name()
    subject = report['subject']
    assert subject['model'] == 'handmade' and subject['depth_prior'] == 'none'
    assert 'onnxruntime' in subject['backend'] and subject['semantic_path'].startswith('student')
    assert subject['model_sha256'] == load_manifest(model_dir).files['onnx'].sha256
    assert 'not an official split' in capsys.readouterr().out


def test_the_prior_used_is_the_one_that_auto_found(model_dir, images, truth, tmp_path):
    words = ['--ground-truth', truth, '--model', model_dir, '--sequences', '08']
    assert run_verb('evaluate', images, *words, '--out', tmp_path) == 0
    report = json.loads((tmp_path / 'evaluation.json').read_text())
    assert report['subject']['depth_prior'] == 'stereo' and report['frames'] == {'08': 2}


def test_a_split_must_be_complete(images, truth, capsys):
    words = ['--ground-truth', truth, '--predictions', images, '--split', 'val']
    assert run_verb('evaluate', images, *words) == 2
    assert '08_000010.npz: missing' in capsys.readouterr().err


def test_missing_images_are_named_before_anything_runs(model_dir, truth, tmp_path, capsys):
    words = ['--ground-truth', truth, '--model', model_dir]
    assert run_verb('evaluate', tmp_path, *words) == 2
    printed = capsys.readouterr().err
    assert '00/image_2/*.png: 2 of 2 missing' in printed and 'data_odometry_color.zip' in printed


def test_submission_has_full_size_files_of_the_wanted_frames(submission):
    files = sorted(path.relative_to(submission).as_posix() for path in submission.rglob('*.label'))
    assert files == [member_name(key) for key in FRAMES]
    labels = train_from_raw(read_voxel_labels(submission / files[0]))
    assert labels.any()
    blocks = labels.reshape(32, 8, 32, 8, 8, 4)  # every coarse voxel fills its fine ones
    assert (blocks == blocks[:, :1, :, :1, :, :1]).all()


def test_check_names_the_bad_file(images, submission, tmp_path, capsys):
    assert submit(images, '--check', submission) == 0
    assert 'valid, 4 files of sequences 00, 08' in capsys.readouterr().out
    path = tmp_path / 'copy' / member_name(FRAMES[0])
    path.parent.mkdir(parents=True)
    path.write_bytes(np.zeros(10, np.uint16).tobytes())
    assert submit(images, '--check', tmp_path / 'copy') == 2
    assert f'{member_name(FRAMES[1])} is missing' in capsys.readouterr().err


def test_zip_is_packed_and_checked(model_dir, images, tmp_path, capsys):
    words = ['--out', tmp_path / 'o', '--zip', tmp_path / 's.zip', '--model', model_dir]
    assert submit(images, *words, '--prior', 'none') == 0
    assert 's.zip: valid, 4 files' in capsys.readouterr().out
    assert submit(images, '--check', tmp_path / 's.zip') == 0


def test_without_the_benchmarks_frames_nothing_is_written(model_dir, images, tmp_path, capsys):
    words = ['--out', tmp_path / 'out', '--model', model_dir]
    assert run_verb('submit', images, *words) == 2
    assert '11/voxels: expected 000000.bin' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()
