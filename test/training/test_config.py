"""Training configs load strictly."""

from __future__ import annotations

from pathlib import Path

import pytest

from cigocc_ros.core.errors import ConfigError
from cigocc_ros.data.kitti_layout import NUM_SCANS, SPLITS, VOXELS_EVERY
from cigocc_ros.training.config import AugmentConfig, TrainConfig, load_train_config
from cigocc_ros.training.schedule import plan_stages


def test_every_shipped_config_loads(repository: Path) -> None:
    names = [path.stem for path in (repository / 'config' / 'train').glob('*.yaml')]
    assert {'synthetic', 'semantic_kitti', 'kitti_mini'} <= set(names)
    for name in names:
        assert load_train_config(name).steps > 0


def test_full_recipe_has_the_epochs_of_the_method() -> None:
    """24 epochs of stage 1 and 20 of stage 2 on 3834 frames in batches of 4."""
    config = load_train_config('semantic_kitti')
    first, second = (plan.horizon.steps for plan in plan_stages('both', config))
    per_epoch = sum(len(range(0, NUM_SCANS[name], VOXELS_EVERY)) for name in SPLITS['train']) / 4
    assert first / per_epoch == pytest.approx(24, rel=1e-3)
    assert second / per_epoch == pytest.approx(20, rel=1e-3)


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
