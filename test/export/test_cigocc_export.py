"""The real network: tiny random weights, through `cigocc export`, equal to torch on any camera."""

import json

import numpy as np
import pytest
import torch

from cigocc_ros.commands import main as dispatcher
from cigocc_ros.core.manifest import load_manifest
from cigocc_ros.export.gate import torch_reference
from cigocc_ros.export.parity import agreement, random_inputs
from cigocc_ros.runtime.engine import create_engine
from cigocc_ros.runtime.predictor import Predictor


def main(arguments):
    """Run `cigocc export`, dispatched as for a user; other verbs stay unloaded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dispatcher, 'VERBS', ('export',))
        return dispatcher.main(arguments)


def lively(model):
    """Return a random network without the prior for empty, so that many classes appear."""
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for classify in (model.stage1_classify, model.head.classify):
            classify.bias.zero_()
            classify.weight.normal_(generator=generator)
    return model.eval()


@pytest.fixture(scope='module')
def checkpoint(repository, tmp_path_factory):
    from cigocc_ros.core.config import load_model_config
    from cigocc_ros.model.build import build_model, save_checkpoint

    torch.manual_seed(2)
    model = lively(build_model(load_model_config(repository / 'config' / 'model' / 'tiny.yaml')))
    run = tmp_path_factory.mktemp('run')
    save_checkpoint(model, run / 'best')
    record = {'model': {}, 'train': {'seed': 2}, 'data': '/home/someone/streets', 'val': None}
    (run / 'run.json').write_text(json.dumps(record))
    lines = [
        {'stage': '2', 'step': 10, 'time_s': 5.0, 'iou': 0.4, 'miou': 0.2, 'precision': 0.5},
        {'stage': '2', 'step': 20, 'time_s': 9.0, 'iou': 0.5, 'miou': 0.1, 'precision': 0.5},
        {'stage': '2', 'step': 30, 'time_s': 12.0, 'loss': 1.0},
    ]
    (run / 'log.jsonl').write_text('\n'.join(json.dumps(line) for line in lines) + '\n')
    return run / 'best', model


@pytest.fixture(scope='module')
def exported(checkpoint, tmp_path_factory):
    out = tmp_path_factory.mktemp('models') / 'tiny'
    arguments = ['export', '--checkpoint', str(checkpoint[0]), '--out', str(out)]
    assert main([*arguments, '--gate-inputs', '2']) == 0
    return out


def test_labels_equal_torch_on_random_cameras(exported, checkpoint):
    manifest = load_manifest(exported)
    engine = create_engine('onnxruntime', exported, manifest, threads=1)
    classes = set()
    for arrays in random_inputs(manifest.image_size, 4, seed=8):
        expected = torch_reference(checkpoint[1], arrays)
        found = agreement(expected, {**expected, **engine.run(arrays)})
        classes |= set(np.unique(expected['labels']).tolist())
        assert found.labels >= 0.999 and found.probabilities >= 0.999
    assert len(classes) >= 5


def test_manifest_carries_what_the_run_recorded(exported):
    manifest = load_manifest(exported)
    assert (manifest.model_id, manifest.config) == ('tiny', 'tiny')
    facts = manifest.training
    assert (facts['train'], facts['data'], facts['val']) == ({'seed': 2}, 'streets', None)
    assert facts['log']['last'] == {'stage': '2', 'step': 30, 'time_s': 12.0}
    assert facts['log']['best'] == {'stage': '2', 'step': 10, 'iou': 0.4, 'miou': 0.2}
    assert 'model' not in facts and facts['config']['name'] == 'tiny'
    assert set(manifest.files) == {'onnx', 'onnx_fp16', 'golden'}


def test_torch_backend_runs_the_checkpoint_with_the_same_answers(exported, checkpoint):
    reference = Predictor.from_model_dir(checkpoint[0], backend='torch')
    deployed = Predictor.from_model_dir(exported, threads=1)
    for arrays in random_inputs((48, 160), 2, seed=21):
        ours, theirs = reference.engine.run(arrays), deployed.engine.run(arrays)
        assert (ours['labels'] == theirs['labels']).mean() >= 0.999


def test_missing_checkpoint_is_one_line_and_exit_2(tmp_path, capsys):
    arguments = ['export', '--checkpoint', str(tmp_path / 'no'), '--out', str(tmp_path / 'm')]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith('cigocc export: ') and error.count('\n') == 1
    assert not (tmp_path / 'm').exists()


def test_gate_without_inputs_is_refused(checkpoint, tmp_path, capsys):
    arguments = ['export', '--checkpoint', str(checkpoint[0]), '--out', str(tmp_path / 'm')]
    assert main([*arguments, '--gate-inputs', '0']) == 2
    assert 'at least one input' in capsys.readouterr().err


def test_unreadable_run_record_is_named(checkpoint, tmp_path, capsys):
    (tmp_path / 'run.json').write_text('{broken')
    arguments = ['export', '--checkpoint', str(tmp_path / 'best'), '--out', str(tmp_path / 'm')]
    assert main(arguments) == 2
    assert 'run.json: cannot be read' in capsys.readouterr().err


def test_record_names_are_those_training_writes():
    from cigocc_ros.commands import export
    from cigocc_ros.training import record, run_log

    assert (export.RECORD_FILE, export.LOG_FILE) == (record.RECORD_FILE, run_log.LOG_FILE)
