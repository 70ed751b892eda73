"""The real network: tiny random weights, through `cigocc export`, equal to torch on any camera."""

import math
import shutil

import numpy as np
import onnx
from fixtures_export import main

from cigocc_ros.commands.export import training_facts
from cigocc_ros.core.manifest import load_manifest
from cigocc_ros.export.gate import torch_reference
from cigocc_ros.export.parity import output_agreement
from cigocc_ros.model.build import save_checkpoint
from cigocc_ros.runtime.engine import create_engine
from cigocc_ros.runtime.predictor import Predictor
from cigocc_ros.runtime.random_frames import random_inputs


def test_labels_equal_torch_on_random_cameras(tiny_folder, tiny_checkpoint):
    manifest = load_manifest(tiny_folder)
    engine = create_engine('onnxruntime', tiny_folder, manifest, threads=1)
    classes = set()
    for arrays in random_inputs(manifest.image_size, 4, seed=8):
        expected = torch_reference(tiny_checkpoint[1], arrays)
        found = output_agreement(expected, {**expected, **engine.run(arrays)})
        classes |= set(np.unique(expected['labels']).tolist())
        assert found.labels >= 0.999 and found.probabilities >= 0.999
    assert len(classes) >= 5


def test_manifest_carries_what_the_run_recorded(tiny_folder):
    manifest = load_manifest(tiny_folder)
    assert (manifest.model_id, manifest.config) == ('tiny', 'tiny')
    facts = manifest.training
    assert (facts['train'], facts['val']) == ({'seed': 2}, None)
    assert facts['data'] == ['streets:0.5', 'real@00:0.5']
    assert (facts['stage'], facts['step'], facts['commit']) == ('2', 10, '1234abc')
    assert facts['scores'] == {'stereo': {'iou': 0.4, 'miou': 0.2}}
    assert 'model' not in facts and facts['config']['name'] == 'tiny'
    assert set(manifest.files) == {'onnx', 'onnx_fp16', 'golden'}


def test_torch_backend_runs_the_checkpoint_with_the_same_answers(tiny_folder, tiny_checkpoint):
    reference = Predictor.from_model_dir(tiny_checkpoint[0], backend='torch')
    deployed = Predictor.from_model_dir(tiny_folder, threads=1)
    for arrays in random_inputs((48, 160), 2, seed=21):
        ours, theirs = reference.engine.run(arrays), deployed.engine.run(arrays)
        assert (ours['labels'] == theirs['labels']).mean() >= 0.999


def test_no_table_of_all_voxels_or_pixels_is_folded_into_the_file(tiny_folder, tiny_checkpoint):
    config = tiny_checkpoint[1].config
    model = onnx.load(tiny_folder / 'model_fp16.onnx')
    sizes = {tensor.name: math.prod(tensor.dims) for tensor in model.graph.initializer}
    assert max(sizes.values()) < math.prod(config.query_shape) * config.channels
    weights = sum(parameter.numel() for parameter in tiny_checkpoint[1].parameters())
    assert sum(sizes.values()) < 1.2 * weights, 'of tiny: it was 1.5 with the tables'
    pixels = math.prod(config.image_size)
    assert not [name for name, size in sizes.items() if size == pixels]


def test_missing_checkpoint_is_one_line_and_exit_2(tmp_path, capsys):
    arguments = ['export', '--checkpoint', str(tmp_path / 'no'), '--out', str(tmp_path / 'm')]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith('cigocc export: ') and error.count('\n') == 1
    assert not (tmp_path / 'm').exists()


def test_gate_without_inputs_is_refused(tiny_checkpoint, tmp_path, capsys):
    arguments = ['export', '--checkpoint', str(tiny_checkpoint[0]), '--out', str(tmp_path / 'm')]
    assert main([*arguments, '--gate-inputs', '0']) == 2
    assert 'at least one input' in capsys.readouterr().err


def test_facts_travel_with_the_weights(tiny_checkpoint, tmp_path, capsys):
    moved = tmp_path / 'elsewhere'
    shutil.copytree(tiny_checkpoint[0], moved)
    facts = training_facts(moved)
    assert facts['data'] == ['streets:0.5', 'real@00:0.5'] and facts['step'] == 10
    assert not capsys.readouterr().out


def test_weights_that_say_less_are_exported_with_a_message(tiny_checkpoint, tmp_path, capsys):
    save_checkpoint(tiny_checkpoint[1], tmp_path / 'old', {'commit': '"abc"', 'train': '{}'})
    assert training_facts(tmp_path / 'old') == {'commit': 'abc', 'train': {}}
    assert 'its header does not say stage, step, scores, data;' in capsys.readouterr().out
    save_checkpoint(tiny_checkpoint[1], tmp_path / 'bare')
    assert training_facts(tmp_path / 'bare') == {}
    save_checkpoint(tiny_checkpoint[1], tmp_path / 'foreign', {'format': 'pt'})
    assert training_facts(tmp_path / 'foreign') == {'format': 'pt'}
