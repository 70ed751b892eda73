"""`cigocc pack` and `cigocc train` on nothing but shards."""

import json
import shutil

import fixtures_boxes
import pytest

from cigocc_ros.commands import main as dispatcher
from cigocc_ros.core.config import load_model_config
from cigocc_ros.training.cache import cache_key
from cigocc_ros.training.shards import Shard


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp('kitti')
    fixtures_boxes.write_kitti_tree(root, seeds=(0, 1), size=(104, 320))
    return root


def run(*words):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dispatcher, 'VERBS', ('pack', 'train'))
        return dispatcher.main([str(word) for word in words])


def pack(data, out, *more):
    return run('pack', '--data', data, '--model', 'tiny', '--out', out, *more)


def train(folder, out, *more):
    words = ['--out', out, '--model', 'tiny', '--steps', '2', '--threads', '1', '--stage', 'joint']
    return run('train', '--data', folder, *words, *more)


def test_frames_are_spread_over_shards(data, tmp_path, capsys):
    assert pack(data, tmp_path, '--frames-per-shard', '1', '--name', 'streets') == 0
    found = sorted(tmp_path.glob('*.shard'))
    assert [path.name for path in found] == ['streets_0000.shard', 'streets_0001.shard']
    names = [Shard(path).names for path in found]
    assert names == [('00/000000',), ('00/000001',)]
    assert Shard(found[0]).header.prepared_for == cache_key(load_model_config('tiny'))
    assert '1 frames' in capsys.readouterr().out


def test_a_host_with_shards_alone_trains_and_validates(data, tmp_path):
    shards = tmp_path / 'shards'
    assert pack(data, shards) == 0
    assert train(shards, tmp_path / 'run', '--val', shards) == 0
    record = json.loads((tmp_path / 'run' / 'run.json').read_text())
    assert (record['train_frames'], record['val_frames']) == (2, 2)
    entries = (tmp_path / 'run' / 'log.jsonl').read_text().splitlines()
    assert any('iou' in json.loads(line) for line in entries)


def test_shards_that_come_later_are_taken_by_the_next_run(data, tmp_path):
    shards = tmp_path / 'shards'
    assert pack(data, tmp_path / 'all', '--frames-per-shard', '1') == 0
    first, second = sorted((tmp_path / 'all').glob('*.shard'))
    shards.mkdir()
    first.rename(shards / first.name)
    assert train(shards, tmp_path / 'one') == 0
    second.rename(shards / second.name)
    assert train(shards, tmp_path / 'two') == 0
    counts = [
        json.loads((tmp_path / name / 'run.json').read_text())['train_frames']
        for name in ('one', 'two')
    ]
    assert counts == [1, 2]


def test_what_does_not_fit_is_told(data, tmp_path, capsys):
    assert pack(data, tmp_path / 'shards') == 0
    assert pack(data, tmp_path / 'x', '--frames-per-shard', '0') == 2
    assert '--frames-per-shard takes 1 or more' in capsys.readouterr().err
    assert train(f'{tmp_path / "shards"}@00', tmp_path / 'run') == 2
    assert 'the sequences were chosen when they were packed' in capsys.readouterr().err
    words = ['--data', tmp_path / 'shards', '--model', 'small', '--out', tmp_path / 'run']
    assert run('train', *words) == 2
    assert 'pack again with the same --model' in capsys.readouterr().err


def test_images_without_volumes_are_packed_for_eyes_alone(data, tmp_path, capsys):
    root, shards = tmp_path / 'data', tmp_path / 'shards'
    shutil.copytree(data / 'sequences', root / 'sequences')
    shutil.rmtree(root / 'sequences/00/voxels')
    assert pack(root, shards) == 2
    assert 'no labelled frames' in capsys.readouterr().err
    assert pack(root, shards, '--stage', 'eyes') == 0
    kept = Shard(next(shards.glob('*.shard'))).load('00/000001')
    assert 'labels' not in kept and (kept['classes'] != 255).any()
    assert kept['classes_are_sparse'].shape == () and not kept['classes_are_sparse']
    words = ['--val', shards, '--set', 'validation_priors=[none]', '--set', 'new_shards_every=1']
    assert train(shards, tmp_path / 'joint', *words) == 2
    assert 'pack again with the same --model and --stage' in capsys.readouterr().err
    assert train(shards, tmp_path / 'eyes', '--stage', 'eyes', *words) == 0
    lines = (tmp_path / 'eyes/log.jsonl').read_text().splitlines()
    scores = [one for one in map(json.loads, lines) if 'accuracy' in one]
    assert scores and 0 < scores[-1]['depth_near'] <= 1
