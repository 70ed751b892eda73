"""A calibration in the graph: the same calibrated answers from every file and every backend."""

import argparse
import importlib.util
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from fixtures_calibration import (
    breaks_threshold,
    calibrated_answers,
    calibration,
    differences,
    odds_of,
)
from fixtures_export import lively, main

from cigocc_ros.commands.export import add_arguments, chosen_calibration
from cigocc_ros.core.calibration import Scaling, read_calibration, write_calibration
from cigocc_ros.core.config import load_model_config
from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.labels import spread_voxels
from cigocc_ros.core.manifest import load_manifest
from cigocc_ros.core.views import views_of_voxels
from cigocc_ros.export.gate import torch_reference
from cigocc_ros.export.int8_folder import Int8Options, quantize_folder
from cigocc_ros.export.open_engine import open_engine
from cigocc_ros.model.build import build_model, save_checkpoint
from cigocc_ros.model.weight_files import weights_sha256
from cigocc_ros.runtime.predictor import Predictor
from cigocc_ros.runtime.random_frames import random_inputs

HEADS = ('shape', 'subvoxel_shape')


def fitting(model, weights):
    """Return a calibration by which a third of the voxels of a random frame is occupied.

    Inside the image more of them are, and where depth was measured fewer.
    """
    arrays = random_inputs(model.config.image_size, 1, seed=40)[0]
    third = np.quantile(odds_of(torch_reference(model, arrays)['logits']), 2 / 3)
    made = calibration(facts={'weights_sha256': weights})
    shift = float(made.needed_logit - made.scale * third)
    return replace(
        made, shift=shift, seen=Scaling(0.9, shift + 0.8), measured=Scaling(1.4, shift - 0.8)
    )


def definitions(model, made, arrays):
    """Return what the definitions make of torch's raw logits for these inputs."""
    matrix, prior = arrays['pixel_from_velo'][0], arrays['depth_prior'][0]
    views = views_of_voxels(model.config.query_grid, matrix, prior)
    logits = torch_reference(model, arrays)['logits']
    return calibrated_answers(logits, made, spread_voxels(views, logits.shape[2:]))


@pytest.fixture(scope='module', params=HEADS)
def calibrated(request, tmp_path_factory):
    """Return the network, its calibration, the folders of its checkpoint and of its export."""
    root = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(6)
    model = lively(build_model(replace(load_model_config('tiny'), head_upsample=request.param)))
    save_checkpoint(model, root / 'run')
    made = fitting(model, weights_sha256(root / 'run'))
    write_calibration(root / 'run' / 'calibration.yaml', made)
    words = ['export', '--checkpoint', root / 'run', '--out', root / 'model', '--with-logits']
    words += ['--gate-inputs', '1', '--calibration', root / 'run' / 'calibration.yaml']
    assert main([str(word) for word in words]) == 0
    return model, made, root / 'run', root / 'model'


@pytest.fixture(scope='module')
def frames(calibrated):
    """Return pairs of inputs and what the definitions make of torch's raw logits for them."""
    model, made, *_ = calibrated
    inputs = random_inputs(model.config.image_size, 2, seed=41)
    return [(arrays, definitions(model, made, arrays)) for arrays in inputs]


def backends(run, folder):
    yield f'torch:{run}', 0.001
    yield f'onnxruntime:{folder}', 0.001
    yield f'rounded:{folder}', 0.05
    if importlib.util.find_spec('openvino'):
        yield f'openvino:{folder}', 0.001


def test_every_backend_gives_the_calibrated_answers(calibrated, frames):
    _, made, run, folder = calibrated
    for text, most in backends(run, folder):
        engine = open_engine(text, 1)
        for arrays, expected in frames:
            found = engine.run(arrays)
            assert max(differences(found, expected)) <= most, text
            assert not breaks_threshold(found, made.threshold), text
        engine.close()


def test_the_answers_differ_from_those_without(calibrated, frames):
    """What would pass with scale, shift, threshold or temperature ignored is no proof."""
    model, made, *_ = calibrated
    arrays, expected = frames[0]
    assert min(differences(torch_reference(model, arrays), expected)) > 0.02
    changes = ({'scale': 1.0}, {'shift': 0.0}, {'threshold': 0.6}, {'temperature': 1.0})
    for change in (*changes, {'seen': None}, {'measured': None}):
        other = replace(made, **change)
        changed = max(difference(definitions(model, other, a), e) for a, e in frames)
        assert changed > 0.02, change


def difference(answers, expected):
    labels, *said = answers
    steps = zip(('occupied_probability', 'class_probability'), said, strict=True)
    return max(differences({'labels': labels, **{n: 255 * x for n, x in steps}}, expected))


def test_the_manifest_carries_it_and_the_self_check_passes(calibrated):
    _, made, run, folder = calibrated
    manifest = load_manifest(folder)
    assert manifest.calibration == made and manifest.gives_class_probability
    assert manifest.training['weights_sha256'] == weights_sha256(run)
    for predictor in (
        Predictor.from_model_dir(folder, threads=1),
        Predictor.from_model_dir(run, backend='torch'),
    ):
        assert predictor.manifest.calibration == made
        predictor.warm_up()


def test_logits_for_evaluation_are_those_of_the_calibrated_answers(calibrated, frames):
    from cigocc_ros.runtime.onnxruntime_engine import open_session

    session = open_session(calibrated[3] / 'model_logits.onnx', 1)
    arrays, (_, probability, sure) = frames[0]
    logits = session.run(['logits'], arrays)[0].astype(np.float64)
    shares = np.exp(logits - logits.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    assert np.abs(1 - shares[:, 0] - probability).max() < 0.01
    named = shares[:, 1:].max(1) / np.maximum(1 - shares[:, 0], 1e-9)
    assert np.abs(named - sure)[probability > 0.01].max() < 0.01


def test_int8_keeps_the_calibration(calibrated, frames, tmp_path):
    model, made, _, folder = calibrated
    if model.config.head_upsample != 'shape':
        pytest.skip('the graph behind the network is the same for all heads')
    options = Int8Options(reduce_range=False, use_modelopt=False, threads=1, data='random')
    inputs = [arrays for arrays, _ in frames]
    manifest = quantize_folder(folder, tmp_path / 'int8', inputs[:1], inputs[1:], options)
    assert manifest.calibration == made and manifest.gives_class_probability
    found = open_engine(f'onnxruntime:{tmp_path / "int8"}', 1).run(inputs[0])
    assert not breaks_threshold(found, made.threshold)
    assert max(differences(found, frames[0][1])) < 0.9


def test_a_calibration_of_other_weights_is_refused_unless_said(calibrated, tmp_path, capsys):
    _, made, run, _ = calibrated
    shutil.copytree(run, tmp_path / 'run')
    other = tmp_path / 'run' / 'calibration.yaml'
    write_calibration(other, replace(made, facts={'weights_sha256': 'ab' * 32}))
    words = ['export', '--checkpoint', str(tmp_path / 'run'), '--out', str(tmp_path / 'm')]
    words += ['--calibration', str(other)]
    assert main(words) == 2
    assert 'expected a calibration of' in capsys.readouterr().err
    assert not (tmp_path / 'm').exists()
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    args = parser.parse_args([*words[1:], '--calibration-of-other-weights'])
    assert chosen_calibration(args, weights_sha256(run)) == read_calibration(other)
    with pytest.raises(DataFileError, match='expected a calibration of'):
        Predictor.from_model_dir(tmp_path / 'run', backend='torch')


def test_options_that_do_not_go_together_are_refused(calibrated, tmp_path, capsys):
    *_, run, _ = calibrated
    words = ['export', '--checkpoint', str(run), '--out', str(tmp_path / 'm')]
    with pytest.raises(SystemExit):
        main([*words, '--calibration', str(run / 'calibration.yaml'), '--empty-shift', '1'])
    assert 'not allowed with argument' in capsys.readouterr().err
    assert main([*words, '--calibration-of-other-weights']) == 2
    assert 'goes with --calibration' in capsys.readouterr().err
