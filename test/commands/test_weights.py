"""`cigocc weights` makes what trains on: small, in parts, listed in the manifest of a model."""

from __future__ import annotations

import shutil
from pathlib import Path

import fixtures_boxes
import pytest
import torch

from cigocc_ros.commands.main import main
from cigocc_ros.core.config import load_model_config
from cigocc_ros.core.errors import ManifestError
from cigocc_ros.core.manifest import load_manifest, verify_files
from cigocc_ros.model.build import build_model, load_checkpoint, save_checkpoint
from cigocc_ros.model.weight_files import read_record


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """A model folder of one's own."""
    return Path(shutil.copytree(tiny_folder, tmp_path / 'models' / 'tiny'))


def test_parts_in_float16_are_printed(
    tiny_checkpoint: tuple, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / 'small'
    words = ['weights', str(tiny_checkpoint[0]), '--out', str(out), '--part-mib', '0.1']
    assert main(words) == 0
    said = capsys.readouterr().out
    assert all(str(path) in said for path in out.iterdir())
    assert read_record(out) == read_record(tiny_checkpoint[0]) | {'weights_precision': '"fp16"'}
    whole = tmp_path / 'whole'
    assert main(['weights', str(out), '--out', str(whole), '--precision', 'fp32']) == 0
    one, other = (load_checkpoint(path).state_dict() for path in (out, whole))
    assert all(value.equal(other[name]) for name, value in one.items())
    assert 'weights_precision' not in read_record(whole)


def test_a_model_folder_lists_its_weights(tiny_checkpoint: tuple, folder: Path) -> None:
    assert main(['weights', str(tiny_checkpoint[0]), '--out', str(folder)]) == 0
    manifest = load_manifest(folder)
    assert set(verify_files(folder, manifest)) >= {'onnx', 'golden', 'weights', 'weights_config'}
    weights = folder / 'model.safetensors'
    loaded = load_checkpoint(folder).state_dict()
    torch.testing.assert_close(
        loaded, dict(tiny_checkpoint[1].state_dict()), rtol=2**-11, atol=2**-25
    )
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ManifestError, match='sha256'):
        load_checkpoint(folder)


def test_training_goes_on_from_a_model_folder(
    tiny_checkpoint: tuple, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / 'data'
    fixtures_boxes.write_kitti_tree(data, seeds=(0,), size=(104, 320))
    words = ['train', '--data', str(data), '--model', 'tiny', '--threads', '1', '--steps', '1']
    words += ['--stage', '1', '--set', 'ema_decay=null', '--set', 'learning_rate=1.0e-12']
    words += ['--init', str(folder)]
    assert main([*words, '--out', str(tmp_path / 'run')]) == 2
    assert 'cigocc weights CHECKPOINT --out' in capsys.readouterr().err
    assert main(['weights', str(tiny_checkpoint[0]), '--out', str(folder)]) == 0
    assert main([*words, '--out', str(tmp_path / 'run')]) == 0
    before = load_checkpoint(folder).state_dict()
    after = load_checkpoint(tmp_path / 'run/latest').state_dict()
    for name in (name for name in before if name.startswith('head')):
        torch.testing.assert_close(after[name], before[name], rtol=0, atol=1e-6)


def test_weights_of_before_the_last_export_are_refused(
    tiny_checkpoint: tuple, folder: Path
) -> None:
    assert main(['weights', str(tiny_checkpoint[0]), '--out', str(folder)]) == 0
    words = ['export', '--checkpoint', str(tiny_checkpoint[0]), '--out', str(folder)]
    assert main([*words, '--gate-inputs', '1']) == 0
    with pytest.raises(ManifestError, match='lists no weights'):
        load_checkpoint(folder)


def test_weights_beside_the_listed_ones_are_refused(tiny_checkpoint: tuple, folder: Path) -> None:
    assert main(['weights', str(tiny_checkpoint[0]), '--out', str(folder)]) == 0
    (folder / 'model-00001-of-00001.safetensors').write_bytes(b'')
    with pytest.raises(Exception, match='both model.safetensors and parts'):
        load_checkpoint(folder)


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(words) == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_weights_of_another_training_are_refused(
    tiny_checkpoint: tuple, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / 'other'
    record = read_record(tiny_checkpoint[0]) | {'step': '11'}
    save_checkpoint(tiny_checkpoint[1], other, record)
    said = refused(['weights', str(other), '--out', str(folder)], capsys)
    assert 'step is 10 in the manifest, 11 in the checkpoint' in said
    wide = tmp_path / 'wide'
    save_checkpoint(build_model(load_model_config('small')), wide)
    said = refused(['weights', str(wide), '--out', str(folder)], capsys)
    assert 'a network of another config' in said
    said = refused(['weights', str(wide), '--out', str(wide)], capsys)
    assert 'is the checkpoint itself' in said
    words = ['weights', str(tiny_checkpoint[0]), '--out', str(folder), '--part-mib', '1']
    assert 'leave out --part-mib' in refused(words, capsys)
    assert 'weights' not in load_manifest(folder).files


def test_weights_that_are_no_numbers_are_refused(
    tiny_checkpoint: tuple, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = load_checkpoint(tiny_checkpoint[0])
    with torch.no_grad():
        model.lift.floor.fill_(float('nan'))
    save_checkpoint(model, tmp_path / 'broken')
    words = ['weights', str(tmp_path / 'broken'), '--out', str(tmp_path / 'out')]
    assert 'lift.floor holds values that are not finite' in refused(words, capsys)
