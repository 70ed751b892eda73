"""`cigocc parity` on a network whose answers are known, against itself and a changed copy."""

import json
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest
from fixtures_sequence import build_sequence
from fixtures_tiny_model import build_tiny_model_dir, say_trained
from onnx import numpy_helper

from cigocc_ros.commands import main as dispatcher


@pytest.fixture(scope='module')
def model_dir(tmp_path_factory):
    """A model folder with a second file, in which every label is one higher."""
    folder = build_tiny_model_dir(tmp_path_factory.mktemp('models') / 'handmade')
    model = onnx.load(folder / 'model.onnx')
    classes = next(t for t in model.graph.initializer if t.name == 'one')
    classes.CopyFrom(numpy_helper.from_array(np.int32(0), 'one'))
    onnx.save_model(model, folder / 'lower.onnx')
    return folder


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp('data')
    for name in ('00', '01'):
        build_sequence(root / 'sequences' / name, frames=2)
    return root


def parity(*words):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dispatcher, 'VERBS', ('parity',))
        return dispatcher.main(['parity', *map(str, words), '--threads', '1'])


def test_same_file_agrees_and_a_changed_one_does_not(model_dir, data, tmp_path, capsys):
    subjects = [f'onnxruntime:{model_dir}', f'onnxruntime:{model_dir}/model.onnx']
    subjects.append(f'onnxruntime:{model_dir}/lower.onnx')
    words = ['--data', data, '--frames', 3, '--prior', 'none', '--out', tmp_path]
    assert parity(*subjects, *words) == 0
    content = json.loads((tmp_path / 'parity.json').read_text())
    same, lower = (candidate['agreement'] for candidate in content['candidates'])
    assert same['labels'] == same['labels_where_occupied'] == same['mean_iou'] == 1.0
    assert same['largest_probability_difference'] == 0.0
    assert lower['labels_where_occupied'] == 0.0 and 0.5 < lower['labels'] < 1
    assert lower['occupied_iou'] < 1 and len(lower['iou_per_class']) > 5
    assert lower['largest_probability_difference'] == 0.0
    assert content['frames'] == f'3 of 4 in {data.name} (2 sequences)'
    assert content['depth_prior'] == 'none' and len(content['reference']['latency_ms']) == 3
    assert content['candidates'][1]['file'] == 'lower.onnx'
    assert 'Labels equal' in capsys.readouterr().out


def test_frames_are_matched_as_the_reference_was_trained(model_dir, data, monkeypatch):
    seen = []

    class Enough(Exception):
        pass

    def compared(engines, frames, machine):
        seen.append(next(iter(frames.frames)).depth_m)
        raise Enough

    monkeypatch.setattr('cigocc_ros.commands.parity.compare', compared)
    own = shutil.copytree(model_dir, model_dir.parent / 'offset')
    say_trained(own, stereo_offset_px=5.0)
    for first in (model_dir, own):
        with pytest.raises(Enough):
            parity(f'onnxruntime:{first}', f'onnxruntime:{model_dir}', '--data', data)
    plain, offset = (depth[depth > 0] for depth in seen)
    assert np.median(offset) < 0.8 * np.median(plain)


def test_backends_on_random_cameras(model_dir, tmp_path):
    pytest.importorskip('openvino')
    subjects = [f'onnxruntime:{model_dir}', f'openvino:{model_dir}']
    words = ['--frames', 2, '--out', tmp_path, '--require', 0.999]
    assert parity(*subjects, *words) == 0
    content = json.loads((tmp_path / 'parity.json').read_text())
    assert 'openvino' in content['candidates'][0]['engine']
    assert content['candidates'][0]['agreement']['labels'] > 0.999
    assert 'random cameras' in content['frames']


def test_required_agreement_decides_the_exit_status(model_dir, capsys):
    subjects = [f'onnxruntime:{model_dir}', f'onnxruntime:{model_dir}/lower.onnx']
    assert parity(*subjects, '--frames', 1, '--require', 0.999) == 1
    assert 'lower.onnx: 0.' in capsys.readouterr().err


@pytest.mark.parametrize(
    'subjects, message',
    [
        (['onnxruntime:{0}'], 'at least one other'),
        (['onnxruntime:{0}', '{0}'], 'expected BACKEND:MODEL'),
        (['auto:{0}', 'onnxruntime:{0}'], 'expected BACKEND:MODEL'),
        (['onnxruntime:{0}', 'onnxruntime:{0}/none.onnx'], 'none.onnx: no such file'),
        (['onnxruntime:{0}', 'onnxruntime:nowhere'], "no model 'nowhere'"),
        (['onnxruntime:{0}', 'rounded:{0}'], "no 'onnx_fp16' file"),
        (['onnxruntime:{0}', 'torch:{0}'], 'handmade'),
    ],
)
def test_what_cannot_be_compared_is_one_line(model_dir, capsys, subjects, message):
    assert parity(*(text.format(model_dir) for text in subjects), '--frames', 1) == 2
    error = capsys.readouterr().err
    assert message in error and error.count('\n') == 1


def test_a_listed_file_must_be_the_listed_one(model_dir, tmp_path, capsys):
    folder = shutil.copytree(model_dir, tmp_path / 'model')
    shutil.copy(folder / 'lower.onnx', folder / 'model.onnx')
    path = f'onnxruntime:{folder}/model.onnx'
    assert parity(f'onnxruntime:{model_dir}', path, '--frames', 1) == 2
    assert 'sha256' in capsys.readouterr().err


def test_no_torch_where_no_subject_needs_it(model_dir):
    code = (
        'import sys\n'
        "for name in ('torch', 'rclpy'): sys.modules[name] = None\n"
        'from cigocc_ros.commands import main\n'
        "main.VERBS = ('parity',)\n"
        f"subject = 'onnxruntime:{model_dir}'\n"
        "words = ['parity', subject, subject, '--frames', '1', '--threads', '1']\n"
        'sys.exit(main.main(words))\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', code], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
