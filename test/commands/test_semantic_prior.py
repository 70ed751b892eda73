"""Label images of another network reach the voxels through `infer` and `evaluate`."""

import dataclasses

import numpy as np
import pytest
import torch
from fixtures_boxes import write_kitti_tree
from fixtures_export import lively

from cigocc_ros.commands import main as dispatcher
from cigocc_ros.core.config import load_model_config
from cigocc_ros.data.image_files import write_semantic_image
from cigocc_ros.data.kitti_files import read_voxel_labels
from cigocc_ros.data.kitti_layout import find_sequences
from cigocc_ros.data.kitti_sequence import KittiSequence
from cigocc_ros.model.build import build_model, save_checkpoint

CITYSCAPES_CAR, CITYSCAPES_SKY = 13, 10


def checkpoint(folder, repository, **config):
    torch.manual_seed(5)
    tiny = load_model_config(repository / 'config' / 'model' / 'tiny.yaml')
    save_checkpoint(lively(build_model(dataclasses.replace(tiny, **config))), folder)
    return folder


@pytest.fixture(scope='module')
def takes(tmp_path_factory, repository):
    return checkpoint(tmp_path_factory.mktemp('takes'), repository, semantic_prior=True)


@pytest.fixture(scope='module')
def takes_not(tmp_path_factory, repository):
    return checkpoint(tmp_path_factory.mktemp('not'), repository)


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp('kitti')
    write_kitti_tree(root, seeds=(0,), size=(104, 320))
    return root


@pytest.fixture(scope='module')
def labels(data, tmp_path_factory):
    """Label images in Cityscapes ids: everything a car."""
    return label_images(tmp_path_factory.mktemp('labels'), data, CITYSCAPES_CAR)


def label_images(root, data, foreign):
    for folder in find_sequences(data):
        for frame_id in KittiSequence(folder).frame_ids:
            image = np.full((52, 160), foreign, np.uint8)
            path = root / 'sequences' / folder.name / f'{frame_id}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            write_semantic_image(path, image)
    return root


def run(*words):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dispatcher, 'VERBS', ('infer', 'evaluate'))
        return dispatcher.main([str(word) for word in words])


def infer(data, model, out, *more):
    words = ['infer', data, '--model', model, '--backend', 'torch', '--prior', 'none']
    assert run(*words, '--out', out, *more) == 0
    return [read_voxel_labels(path) for path in sorted(out.rglob('*.label'))]


def test_classes_from_outside_change_the_voxels(data, labels, takes, tmp_path):
    without = infer(data, takes, tmp_path / 'without')
    given = ['--semantic-prior', labels, '--semantic-classes', 'cityscapes']
    with_labels = infer(data, takes, tmp_path / 'with', *given)
    assert any((a != b).any() for a, b in zip(without, with_labels, strict=True))


def test_a_report_names_the_label_images(data, labels, takes, capsys):
    words = ['evaluate', data, '--model', takes, '--backend', 'torch', '--prior', 'none']
    assert run(*words, '--semantic-prior', labels, '--semantic-classes', 'cityscapes') == 0
    assert f'with label images {labels} (cityscapes)' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        (['--semantic-prior', 'LABELS'], 'give --semantic-prior and --semantic-classes together'),
        (['--semantic-classes', 'ade20k'], 'give --semantic-prior and --semantic-classes'),
        (['--semantic-prior', 'GONE', '--semantic-classes', 'ade20k'], 'no such folder'),
        (
            ['--semantic-prior', 'EMPTY', '--semantic-classes', 'cityscapes'],
            'no label image of frame',
        ),
        (
            ['--semantic-prior', 'SKY', '--semantic-classes', 'cityscapes'],
            "no id of it is a class of 'cityscapes'",
        ),
    ],
)
def test_what_does_not_fit_is_told(given, message, data, labels, takes, tmp_path, capsys):
    (tmp_path / 'empty').mkdir()
    sky = label_images(tmp_path / 'sky', data, CITYSCAPES_SKY)
    places = {'LABELS': labels, 'GONE': tmp_path / 'gone', 'EMPTY': tmp_path / 'empty', 'SKY': sky}
    words = ['infer', data, '--model', takes, '--backend', 'torch', '--out', tmp_path / 'out']
    assert run(*words, *(places.get(word, word) for word in given)) == 2
    assert message in capsys.readouterr().err


def test_a_model_without_the_input_refuses_them(data, labels, takes_not, tmp_path, capsys):
    words = ['infer', data, '--model', takes_not, '--backend', 'torch', '--out', tmp_path]
    assert run(*words, '--semantic-prior', labels, '--semantic-classes', 'cityscapes') == 2
    assert 'no input semantic_prior' in capsys.readouterr().err
