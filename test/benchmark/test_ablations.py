"""The study runs, resumes and compares; its table marks what exceeds the noise."""

from __future__ import annotations

import json
from pathlib import Path

import fixtures_boxes
import pytest
import torch

from benchmark.ablations import __main__ as command
from benchmark.ablations.runs import RESULT_FILE
from benchmark.ablations.table import exceeds_noise, markdown
from benchmark.ablations.variants import load_variants
from benchmark.machine import MEASURED
from cigocc_ros.core.config import load_model_config, to_mapping
from cigocc_ros.core.errors import ConfigError, DataFileError
from cigocc_ros.core.markdown import marks, write_into
from cigocc_ros.model.build import build_model
from cigocc_ros.training.config import load_train_config

BEGIN, END = marks(MEASURED)


@pytest.fixture(scope='module')
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('streets')
    fixtures_boxes.write_kitti_tree(root, (3, 4), (48, 160))
    return root


def study(tree: Path, out: Path, *words: str) -> int:
    paths = [f'--{name}={tree}' for name in ('data', 'val')]
    return command.main([*paths, f'--out={out}', '--model=tiny', '--steps=2', *words])


def result_of(iou: float, variant: str = 'full', seed: int = 0) -> dict:
    scores = {'iou': iou, 'miou': iou / 4}
    by_prior = {'none': scores, 'stereo': scores, 'depth': scores}
    return {
        'variant': variant,
        'model': {'name': 'tiny'},
        'train': {'seed': seed, 'steps': 2, 'batch_size': 1, 'precision': 'fp32'},
        'train_frames': 2,
        'val_frames': 2,
        'real_frames': [],
        'threads': 1,
        'synthetic': by_prior,
        'real': {},
        'cost': {'parameters': 1234567, 'gmac': 1.5, 'forward_cpu_ms': 20.0 + seed},
    }


def results_of(full: list[float], other: list[float]) -> list[dict]:
    groups = (('full', full), ('bce_off', other))
    return [result_of(iou, name, seed) for name, row in groups for seed, iou in enumerate(row)]


def test_every_variant_is_one_change_that_builds() -> None:
    model, train = load_model_config('tiny'), load_train_config(command.TRAIN_FILE)
    variants = load_variants()
    assert {variant.part for variant in variants.values()} == {'', *'abcdfg'}
    settings = []
    for variant in variants.values():
        config = variant.model_config(model)
        build_model(config)
        settings.append(str((to_mapping(config), to_mapping(variant.train_config(train, 0)))))
    assert len(set(settings)) == len(variants)


def test_a_switch_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    path = tmp_path / 'variants.yaml'
    path.write_text(
        '- {name: full, part: "", says: x}\n- {name: a, part: a, says: x, model: {f: 1}}'
    )
    with pytest.raises(ConfigError, match='variant a: model'):
        load_variants(path)['a'].model_config(load_model_config('tiny'))
    path.write_text('- {name: full, part: "", says: x, losses: {masks: 0.0}}')
    with pytest.raises(ConfigError, match='without changes'):
        load_variants(path)


def test_study_trains_scores_and_keeps_finished_runs(tree: Path, tmp_path: Path) -> None:
    out, page = tmp_path / 'runs', tmp_path / 'page.md'
    page.write_text(f'Before.\n{BEGIN}\nstale table\n{END}\nAfter.\n')
    words = ('--variants', 'full', 'voxformer_like', '--seeds', '0')
    assert study(tree, out, *words, f'--real={tree}', f'--table={page}') == 0
    files = sorted(out.glob(f'*/*/{RESULT_FILE}'))
    assert [path.parts[-3:-1] for path in files] == [
        ('full', 'seed0'),
        ('voxformer_like', 'seed0'),
    ]
    for data in ('synthetic', 'real'):
        scores = json.loads(files[0].read_text())[data]
        assert set(scores) == {'none', 'stereo', 'depth'}
        assert all(row['voxels'] > 0 for row in scores.values())
    assert 0 < json.loads(files[0].read_text())['facts']['proposed_share'] <= 1
    content = page.read_text()
    assert content.startswith(f'Before.\n{BEGIN}\n| part |') and content.endswith(
        f'{END}\nAfter.\n'
    )
    assert 'static queries' in content and 'stale' not in content

    written = [path.stat().st_mtime_ns for path in files]
    assert study(tree, out, *words, f'--real={tree}') == 0
    assert [path.stat().st_mtime_ns for path in files] == written
    with pytest.raises(DataFileError, match='other settings'):
        study(tree, out, *words, '--steps=3')


def test_an_interrupted_run_starts_again(tree: Path, tmp_path: Path) -> None:
    folder = tmp_path / 'full' / 'seed0'
    folder.mkdir(parents=True)
    (folder / 'log.jsonl').write_text('half a line')
    study(tree, tmp_path, '--variants', 'full', '--seeds', '0')
    assert (folder / RESULT_FILE).is_file()
    assert 'half a line' not in (folder / 'log.jsonl').read_text()


def test_the_same_seed_gives_the_same_scores(tree: Path, tmp_path: Path) -> None:
    found = []
    for name in ('first', 'second'):
        torch.manual_seed(len(name))
        study(tree, tmp_path / name, '--variants', 'full', '--seeds', '7')
        result = json.loads((tmp_path / name / 'full' / 'seed7' / RESULT_FILE).read_text())
        found.append((result['synthetic'], result['facts']))
    assert found[0] == found[1]


def test_table_marks_differences_beyond_the_noise() -> None:
    text = markdown(results_of([0.50, 0.51, 0.52], [0.40, 0.41, 0.42]), load_variants())
    full, off, none, true = [line for line in text.splitlines() if line.startswith('|')][2:]
    assert '| 51.0 ± 1.0 |' in full and '1.23 | 1.50 | 20 |' in full
    assert '41.0 ± 1.0 (**-10.0**)' in off
    assert none.startswith('| e |') and true.startswith('| e |')
    assert '51.0 ± 1.0 (+0.0)' in none
    close = markdown(results_of([0.50, 0.51, 0.52], [0.49, 0.50, 0.51]), load_variants())
    assert '50.0 ± 1.0 (-1.0)' in close and '1.6 (IoU), 0.4 (mIoU).' in close
    alone = markdown(results_of([0.50], [0.40]), load_variants())
    assert '40.0 (-10.0)' in alone and 'unknown with one seed' in alone


def test_noise_shrinks_with_seeds() -> None:
    assert exceeds_noise(1.0, 0.5, 5, 5)
    assert not exceeds_noise(-1.0, 0.5, 1, 1)
    assert exceeds_noise(-1.5, 0.5, 1, 1)


def test_a_page_without_marks_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / 'page.md'
    page.write_text('text')
    with pytest.raises(DataFileError, match='expected the marks'):
        write_into(page, {MEASURED: 'table'})
    with pytest.raises(DataFileError, match='which all are compared with'):
        markdown([result_of(0.5, 'bce_off')], load_variants())
