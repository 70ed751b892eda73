"""Training configs load strictly."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from cigocc_ros.core.config import load_model_config
from cigocc_ros.core.errors import ConfigError
from cigocc_ros.data.kitti_layout import NUM_SCANS, SPLITS, VOXELS_EVERY
from cigocc_ros.training.config import AugmentConfig, TrainConfig, load_train_config


def test_every_shipped_config_loads(repository: Path) -> None:
    names = [path.stem for path in (repository / 'config' / 'train').glob('*.yaml')]
    assert {'synthetic', 'semantic_kitti', 'kitti_mini'} <= set(names)
    for name in names:
        assert load_train_config(name).steps > 0


def test_recipes_train_as_the_best_published_methods_do() -> None:
    """One joint cycle of about 26 epochs of 3834 frames in batches of 4; one prior each."""
    per_epoch = sum(len(range(0, NUM_SCANS[name], VOXELS_EVERY)) for name in SPLITS['train']) / 4
    for name, prior in (('semantic_kitti', 'stereo'), ('semantic_kitti_mono', 'none')):
        config = load_train_config(name)
        assert config.steps / per_epoch == pytest.approx(26, abs=0.2)
        assert config.second_stage == 'joint' and config.require_backbone
        assert config.validation_priors == (prior,)
        drawn = {kind for kind, part in config.augment.prior_fractions.items() if part > 0}
        assert drawn == {prior}


def test_a_config_inherits_and_says_what_differs(tmp_path: Path) -> None:
    (tmp_path / 'mine.yaml').write_text('base: semantic_kitti\nlosses: {distill: 1.0}\n')
    (tmp_path / 'more.yaml').write_text('base: mine.yaml\nsteps: 7\naugment: {flip: 0.0}\n')
    base, mine = (load_train_config(one) for one in ('semantic_kitti', tmp_path / 'mine.yaml'))
    assert mine.losses.distill == 1.0 and mine.losses.ssc == base.losses.ssc
    assert dataclasses.replace(mine, losses=base.losses) == base
    more = load_train_config(tmp_path / 'more.yaml', ['augment.jitter=0.1', 'batch_size=2'])
    assert (more.steps, more.batch_size, more.losses.distill) == (7, 2, 1.0)
    assert (more.augment.flip, more.augment.jitter, more.augment.prior_stereo) == (0.0, 0.1, 1.0)


def test_settings_are_values_of_yaml() -> None:
    config = load_train_config('synthetic', ['validation_priors=[none, depth]', 'ema_decay=null'])
    assert config.validation_priors == ('none', 'depth') and config.ema_decay is None
    assert load_train_config('synthetic', ['augment.prior_true=0.5']).augment.prior_depth == 0.5


@pytest.mark.parametrize(
    ('setting', 'says'),
    [
        ('losses.distil=1', "losses: unknown key 'distil'"),
        ('steps', '--set: expected KEY=VALUE'),
        ('=3', '--set: expected KEY=VALUE'),
        ('losses.=3', '--set: expected KEY=VALUE'),
        ('steps=many', "steps: expected int, found 'many'"),
        ('steps.first=3', 'steps: expected int'),
        ('losses=3', 'losses: expected a mapping'),
        ('steps=[', '--set steps: not valid YAML'),
    ],
)
def test_settings_that_cannot_be_meant(setting: str, says: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(says)):
        load_train_config('synthetic', [setting])


def test_bases_in_a_circle_and_missing_ones_are_named(tmp_path: Path) -> None:
    for name, base in (('a', 'b.yaml'), ('b', 'a.yaml'), ('c', 'nowhere'), ('d', '[x]')):
        (tmp_path / f'{name}.yaml').write_text(f'base: {base}\n')
    for name, says in (
        ('a', 'bases in a circle'),
        ('c', 'no train config'),
        ('d', 'expected a na'),
    ):
        with pytest.raises(ConfigError, match=says):
            load_train_config(tmp_path / f'{name}.yaml')


def test_a_file_with_some_settings_is_told_how_to_inherit(tmp_path: Path) -> None:
    (tmp_path / 'mine.yaml').write_text('losses: {distill: 1.0}\n')
    with pytest.raises(ConfigError, match="missing key 'steps'.*begins with \"base:"):
        load_train_config(tmp_path / 'mine.yaml')


def test_model_configs_inherit_too(tmp_path: Path) -> None:
    (tmp_path / 'wide.yaml').write_text('base: tiny\nname: wide\nffn_channels: 64\n')
    wide, tiny = load_model_config(tmp_path / 'wide.yaml'), load_model_config('tiny')
    assert dataclasses.replace(wide, name='tiny', ffn_channels=tiny.ffn_channels) == tiny


def test_unknown_key_is_named(tmp_path: Path) -> None:
    path = tmp_path / 'typo.yaml'
    path.write_text('steps: 3\nlearning_rate: 0.1\nlosses: {scal_goe: 1.0}\n')
    with pytest.raises(ConfigError, match="losses: unknown key 'scal_goe'"):
        load_train_config(path)


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="known: .*'synthetic'"):
        load_train_config('synthetik')


@pytest.mark.parametrize(
    'change',
    [
        {'steps': 0},
        {'learning_rate': 0.0},
        {'ema_decay': 1.0},
        {'stage1_share': 1.0},
        {'batch_size': 4, 'micro_batch_size': 3},
        {'validation_priors': ()},
        {'validation_priors': ('none', 'none')},
    ],
)
def test_impossible_numbers_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        TrainConfig(**({'steps': 1, 'learning_rate': 0.1} | change))


@pytest.mark.parametrize('change', [{'flip': 1.5}, {'prior_none': -1.0}, {'jitter': 1.0}])
def test_impossible_augmentation_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        AugmentConfig(**change)


def test_words_of_the_first_release_are_understood(tmp_path: Path) -> None:
    path = tmp_path / 'old.yaml'
    path.write_text(
        'steps: 3\nlearning_rate: 0.1\nvalidation_priors: [measured, none]\n'
        'augment: {prior_none: 0.0, prior_stereo: 0.0, prior_true: 0.5}\n'
    )
    config = load_train_config(path)
    assert config.validation_priors == ('depth', 'none')
    assert config.augment.prior_fractions == {
        'none': 0.0,
        'depth': 0.5,
        'stereo': 0.0,
        'depth_stereo': 0.0,
    }


@pytest.mark.parametrize(
    ('line', 'says'),
    [
        ('augment: {prior_true: 0.5, prior_depth: 0.1}', 'former name of prior_depth'),
        ('validation_priors: [lidar]', "validation_priors.*expected one of.*found 'lidar'"),
        ('validation_priors: [3]', 'found 3'),
        ('augment: [prior_true]', 'expected a mapping'),
        ('augment: {prior_mono: 1.0}', "unknown key 'prior_mono'"),
    ],
)
def test_other_words_are_refused(line: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / 'bad.yaml'
    path.write_text(f'steps: 3\nlearning_rate: 0.1\n{line}\n')
    with pytest.raises(ConfigError, match=says):
        load_train_config(path)
