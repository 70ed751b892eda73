"""What a run asks for is checked before any work, and what it never finds is said."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import fixtures_boxes
import numpy as np
import pytest

from cigocc_ros.core.config import ModelConfig
from cigocc_ros.core.errors import DataFileError
from cigocc_ros.data.image_files import write_depth_image
from cigocc_ros.data.kitti_files import write_point_labels, write_velodyne
from cigocc_ros.data.kitti_layout import Part
from cigocc_ros.training import data_needs as needs
from cigocc_ros.training.cache import FrameRef, find_frames
from cigocc_ros.training.config import AugmentConfig, LossWeights, TrainConfig
from cigocc_ros.training.data_choice import DataChoice

RUN = TrainConfig(steps=1, learning_rate=1.0)
STEREO_ONLY = AugmentConfig(prior_none=0, prior_stereo=1, prior_depth=0)


def folders(parts: tuple[Part, ...]) -> set[str]:
    return {part.folder for part in parts}


@pytest.mark.parametrize(
    ('change', 'teacher', 'trains', 'wanted'),
    [
        ({}, False, True, {'image_3', 'velodyne', 'labels'}),
        ({}, True, True, {'image_3', 'velodyne'}),
        ({'losses': LossWeights(masks=0, stage1_masks=0)}, False, True, {'image_3', 'velodyne'}),
        ({'augment': AugmentConfig(prior_stereo=0)}, False, True, {'velodyne', 'labels'}),
        ({'augment': AugmentConfig(prior_depth_stereo=1)}, True, True,
         {'image_3', 'velodyne', 'depth_stereo'}),
        ({'augment': STEREO_ONLY, 'losses': LossWeights(stage1_depth=0)}, True, True, {'image_3'}),
        ({}, False, False, {'image_3'}),
        ({'validation_priors': ('none',)}, False, False, set()),
        ({'validation_priors': ('depth', 'depth_stereo')}, False, False,
         {'velodyne', 'depth_stereo'}),
    ],
)  # fmt: skip
def test_an_official_split_must_have_what_the_run_asks_for(
    change: dict, teacher: bool, trains: bool, wanted: set[str]
) -> None:
    config = dataclasses.replace(RUN, **change)
    found = folders(needs.official_parts(config, teacher, trains))
    assert found == {'image_2', 'voxels'} | wanted


def test_missing_archives_of_a_split_are_named_before_any_frame_is_prepared(
    tiny: ModelConfig, tmp_path: Path
) -> None:
    """The archives that the documentation of 0.1.0 listed had no point labels."""
    folder = tmp_path / 'sequences/08'
    for part in needs.official_parts(RUN, teacher=False):
        if part.folder not in ('labels', 'image_3'):
            (folder / part.folder).mkdir(parents=True, exist_ok=True)
            for index in range(0, 4071, 5):
                (folder / part.folder / f'{index:06d}{part.suffixes[0]}').touch()
    for name in ('calib.txt', 'times.txt'):
        (folder / name).touch()
    parts = needs.official_parts(RUN, teacher=False)
    with pytest.raises(DataFileError) as refused:
        DataChoice.parse(f'{tmp_path}@val').frames(tiny, parts=parts)
    text = str(refused.value)
    assert 'labels/*.label: 815 of 815 missing' in text
    assert 'data_odometry_labels.zip' in text and 'data_odometry_color.zip' in text
    assert 'velodyne/' not in text and 'voxels/' not in text
    assert not (tmp_path / 'cache').exists()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two frames with everything: a pair, depth and class images, labelled scans."""
    folder = fixtures_boxes.write_kitti_tree(tmp_path, seeds=(0, 1), size=(52, 160))
    for name in ('velodyne', 'labels', 'depth_stereo'):
        (folder / name).mkdir()
    for index in (0, 1):
        write_velodyne(folder / f'velodyne/{index:06d}.bin', np.array([[20.0, 0, 0, 0.5]]))
        write_point_labels(folder / f'labels/{index:06d}.label', np.array([10]))
        write_depth_image(folder / f'depth_stereo/{index:06d}.png', np.full((52, 160), 9.0))
    return tmp_path


def frames_without(root: Path, tiny: ModelConfig, *parts: str) -> list[FrameRef]:
    for name in parts:
        shutil.rmtree(root / 'sequences/00' / name)
    return find_frames(root, tiny)


@pytest.mark.parametrize(
    ('removed', 'said'),
    [
        ((), ()),
        (('masks_2',), ()),
        (('masks_2', 'labels'), ('the loss masks', 'the loss stage1_masks')),
        (('masks_2', 'velodyne'), ('the loss masks', 'the loss stage1_masks')),
        (('depth_2',), ()),
        (('depth_2', 'velodyne'), ('the loss stage1_depth', 'the prior depth')),
        (('image_3',), ('the prior stereo',)),
    ],
)
def test_what_no_frame_has_is_said_with_its_archive(
    removed: tuple[str, ...], said: tuple[str, ...], root: Path, tiny: ModelConfig
) -> None:
    sentences = needs.lacking_everywhere(frames_without(root, tiny, *removed), RUN)
    assert tuple(text.split(' stays')[0].split(' is ')[0] for text in sentences) == said
    assert all('.zip' in text for text in sentences)


def test_losses_that_are_not_asked_for_need_nothing(root: Path, tiny: ModelConfig) -> None:
    frames = frames_without(root, tiny, 'masks_2', 'labels')
    config = dataclasses.replace(RUN, losses=LossWeights(masks=0, stage1_masks=0))
    assert needs.lacking_everywhere(frames, config) == []


def test_a_run_whose_only_prior_is_not_there_is_refused(root: Path, tiny: ModelConfig) -> None:
    """It would train without depth and say nothing."""
    frames = frames_without(root, tiny, 'image_3')
    config = dataclasses.replace(RUN, augment=STEREO_ONLY)
    with pytest.raises(DataFileError, match='asks for .stereo.: unpack data_odometry_color.zip'):
        needs.lacking_everywhere(frames, config)


@pytest.mark.parametrize(
    ('kind', 'part'),
    [('stereo', 'image_3'), ('depth', 'depth_2 velodyne'), ('depth_stereo', 'depth_stereo')],
)
def test_validation_needs_its_prior_of_every_frame(
    kind: str, part: str, root: Path, tiny: ModelConfig
) -> None:
    needs.require_priors(find_frames(root, tiny), (kind, 'none'))
    for name in part.split():
        next((root / 'sequences/00' / name).glob('000001.*')).unlink()
    with pytest.raises(DataFileError, match=f'1 of 2 .* a {kind} prior of, the first are 00/0000'):
        needs.require_priors(find_frames(root, tiny), (kind, 'none'))
