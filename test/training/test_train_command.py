"""`cigocc train` from a folder of files to loadable weights."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import fixtures_boxes
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from cigocc_ros.commands.main import main
from cigocc_ros.core.arrays import read_arrays
from cigocc_ros.core.config import load_model_config, to_mapping
from cigocc_ros.data.image_files import write_semantic_image
from cigocc_ros.model.build import load_checkpoint, read_checkpoint_record
from cigocc_ros.model.fddwnet import Fddwnet
from cigocc_ros.model.weight_files import read_weights


@pytest.fixture(autouse=True)
def only_this_verb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('cigocc_ros.commands.main.VERBS', ('train',))


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('kitti')
    fixtures_boxes.write_kitti_tree(folder, seeds=(0, 1), size=(104, 320))
    return folder


def arguments(root: Path, out: Path, *more: str) -> list[str]:
    paths = ['--data', str(root), '--val', str(root), '--out', str(out)]
    return ['train', *paths, '--model', 'tiny', '--steps', '4', '--threads', '1', *more]


def test_trains_both_stages_and_records_the_run(root: Path, tmp_path: Path) -> None:
    assert main(arguments(root, tmp_path)) == 0
    assert load_checkpoint(tmp_path / 'latest').config.name == 'tiny'
    record = json.loads((tmp_path / 'run.json').read_text())
    assert (record['train_frames'], record['val_frames']) == (2, 2)
    assert record['model']['name'] == 'tiny' and record['train']['steps'] == 4
    entries = [json.loads(line) for line in (tmp_path / 'log.jsonl').read_text().splitlines()]
    assert {entry['stage'] for entry in entries if 'iou' in entry} == {'1', 'joint'}


def test_starts_from_a_checkpoint(root: Path, tmp_path: Path) -> None:
    first, second = tmp_path / 'first', tmp_path / 'second'
    assert main(arguments(root, first, '--stage', '1')) == 0
    assert main(arguments(root, second, '--stage', '2', '--init', str(first / 'latest'))) == 0
    before, after = (load_checkpoint(path / 'latest').state_dict() for path in (first, second))
    kept = [name for name in before if name.startswith(('backbone.', 'unet.'))]
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in kept)


def test_takes_of_another_network_what_fits(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = tmp_path / 'first', tmp_path / 'second'
    assert main(arguments(root, first, '--stage', 'joint')) == 0
    config = dataclasses.replace(
        load_model_config('tiny'),
        semantic_branch='fddwnet',
        semantic_channels=19,
        fddwnet_cell_px=4,
    )
    with_fddwnet = tmp_path / 'with_fddwnet.yaml'
    with_fddwnet.write_text(yaml.safe_dump(to_mapping(config)))
    segmenter = tmp_path / 'fddwnet.safetensors'
    save_file(Fddwnet().state_dict(), segmenter)
    config_file = first / 'latest' / 'model_config.json'
    config_file.write_text('{"name": "of a version that nobody knows any more"}')
    still = ['--set', 'semantic_rate=0', '--set', 'learning_rate=1e-9', '--stage', 'joint']
    still += ['--set', 'ema_decay=null', '--set', 'weight_decay=0', '--model', str(with_fddwnet)]
    takes = ['--transfer', str(first / 'latest'), '--segmenter', str(segmenter)]
    with caplog.at_level('INFO'):
        assert main(arguments(root, second, *still, *takes)) == 0
    assert "new in ['fusion', 'semantic']" in caplog.text
    trained = load_checkpoint(second / 'latest')
    before, after = read_weights(first / 'latest'), trained.state_dict()
    assert all(
        torch.allclose(before[name], after[name], atol=1e-5)
        for name, _ in trained.named_parameters()
        if not name.startswith(('fusion.semantics', 'semantic.'))
    )
    weights = load_file(segmenter)
    for name, value in weights.items():
        assert value.equal(after[f'semantic.network.{name}']), name


def test_starts_that_cannot_be_meant_end_with_one_line(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, out = tmp_path / 'first', tmp_path / 'second'
    assert main(arguments(root, first, '--stage', 'joint')) == 0
    checkpoint = str(first / 'latest')
    for words, cure in (
        (('--segmenter', 'fddwnet.safetensors'), 'semantic_branch: fddwnet'),
        (('--init', checkpoint, '--backbone', 'package'), 'leave --backbone out'),
        (('--init', checkpoint, '--model', 'small'), '--transfer takes of it what fits'),
    ):
        capsys.readouterr()
        assert main(arguments(root, out, *words)) == 2
        assert cure in capsys.readouterr().err


def test_mixes_folders_by_weight_and_resumes(root: Path, tmp_path: Path) -> None:
    mixed = ['--data', f'{root}:0.75', '--data', f'{root}@00:0.25']
    common = ['--out', str(tmp_path), '--model', 'tiny', '--threads', '1', '--stage', 'joint']
    common += ['--accelerator', 'cpu', '--precision', 'fp32', '--num-workers', '1']
    assert main(['train', *mixed, *common, '--steps', '2']) == 0
    assert main(['train', *mixed, *common, '--steps', '3', '--resume']) == 0
    record = json.loads((tmp_path / 'run.json').read_text())
    assert record['data'] == [f'{root}:0.75', f'{root}@00:0.25']
    assert (record['train_frames'], record['train']['precision']) == (4, 'fp32')
    entries = [json.loads(line) for line in (tmp_path / 'log.jsonl').read_text().splitlines()]
    assert [entry['step'] for entry in entries] == [2, 3]


@pytest.fixture(scope='module')
def takes_classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the config of `tiny` with a semantic prior."""
    config = dataclasses.replace(load_model_config('tiny'), semantic_prior=True)
    path = tmp_path_factory.mktemp('config') / 'takes.yaml'
    path.write_text(yaml.safe_dump(to_mapping(config)))
    return path


def test_label_images_are_what_is_trained_with(
    root: Path, takes_classes: Path, tmp_path: Path
) -> None:
    labels = tmp_path / 'labels'
    for path in root.glob('sequences/*/image_2/*'):
        target = labels / path.parents[1].name / f'{path.stem}.png'
        target.parent.mkdir(parents=True, exist_ok=True)
        write_semantic_image(target, np.full((52, 160), 13, np.uint8))
    given = ['--semantic-prior', f'{labels}:cityscapes', '--cache', str(tmp_path / 'cache')]
    words = arguments(root, tmp_path / 'run', '--stage', 'joint', *given)
    assert main([*words, '--model', str(takes_classes)]) == 0
    prepared = list((tmp_path / 'cache').rglob('*.npz'))
    assert len(prepared) == 2  # the frames to validate with are the same
    for path in prepared:
        assert set(np.unique(read_arrays(path)['semantic_prior'])) <= {0, 1}  # a car


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        (['labels'], 'expected DIR:CLASSES'),
        (['ROOT:cityscape'], "unknown set of classes 'cityscape'"),
        (['gone:cityscapes'], 'no such folder'),
        (['none', 'none'], 'expected one for each of the 1 --data'),
        (['EMPTY:cityscapes'], 'no label image of frame'),
    ],
)
def test_label_images_that_do_not_fit_end_with_one_line(
    given: list[str],
    message: str,
    root: Path,
    takes_classes: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = {'ROOT': str(root), 'EMPTY': str(tmp_path)}
    words = []
    for text in given:
        head, colon, tail = text.partition(':')
        words += ['--semantic-prior', f'{places.get(head, head)}{colon}{tail}']
    assert main(arguments(root, tmp_path, *words, '--model', str(takes_classes))) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ('more', 'message'),
    [
        (['--semantic-prior', 'labels:cityscapes'], "model 'tiny' takes no classes from outside"),
        (['--config', 'nonsense'], 'no train config'),
        (['--model', 'nonsense'], 'no model config'),
        (['--time-budget-min', '0'], 'time budget must be positive'),
        (['--resume'], 'not the state of a training run'),
        (['--init', 'nowhere'], 'nowhere'),
        (['--data', 'more:0.5'], 'all folders a weight, or none'),
        (['--precision', 'fp16', '--accelerator', 'cpu'], 'fp16 needs a CUDA device'),
        (['--devices', '0'], 'at least 1 device'),
        (['--set', 'losses.distil=1'], "unknown key 'distil'"),
        (['--config', 'semantic_kitti'], 'give --backbone FILE (docs/training.md says'),
        (['--devices', '2', '--accelerator', 'cpu'], 'multiple of 2 processes'),
    ],
)
def test_wrong_settings_end_with_one_line(
    more: list[str], message: str, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(root, tmp_path, *more)) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith('cigocc train:') and message in error


def test_missing_data_names_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(tmp_path / 'absent', tmp_path)) == 2
    assert 'absent' in capsys.readouterr().err


def test_settings_and_seed_of_the_command_line(root: Path, tmp_path: Path) -> None:
    more = ['--set', 'losses.scal_sem=0.5', '--set', 'validation_priors=[depth]', '--seed', '7']
    assert main(arguments(root, tmp_path, '--stage', '1', *more)) == 0
    record = json.loads((tmp_path / 'run.json').read_text())['train']
    assert (record['losses']['scal_sem'], record['seed']) == (0.5, 7)
    assert record['validation_priors'] == ['depth']
    header = read_checkpoint_record(tmp_path / 'best_stage1')
    assert header['data'] == [root.name] and header['val'] == root.name
    assert list(header['scores']) == ['depth'] and header['stage'] == '1'


def test_a_random_backbone_is_said(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert main(arguments(root, tmp_path / 'a', '--stage', '1')) == 0
    assert 'starts from random weights' in caplog.text
    caplog.clear()
    assert main(arguments(root, tmp_path / 'b', '--stage', '1', '--backbone', 'random')) == 0
    assert 'starts from random weights' not in caplog.text


def test_what_validation_needs_is_checked_before_frames_are_prepared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fixtures_boxes.write_kitti_tree(tmp_path / 'data', seeds=(0,), size=(104, 320))
    (folder / 'image_3/000000.png').unlink()
    assert main(arguments(tmp_path / 'data', tmp_path / 'out')) == 2
    said = capsys.readouterr().err
    assert '1 of 1 validation frames have nothing to make a stereo prior of' in said
    assert 'data_odometry_color.zip' in said and not (tmp_path / 'data/cache').exists()


def test_silent_losses_are_said_before_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = fixtures_boxes.write_kitti_tree(tmp_path / 'data', seeds=(0,), size=(104, 320))
    (folder / 'masks_2/000000.png').unlink()
    assert main(arguments(tmp_path / 'data', tmp_path / 'out', '--stage', '1')) == 0
    assert 'the loss stage1_masks stays 0: no frame has data_odometry_labels.zip' in caplog.text
