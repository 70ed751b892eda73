"""--data and --val: folder, sequences, weight."""

from __future__ import annotations

import shutil
from pathlib import Path

import fixtures_boxes
import pytest

from cigocc_ros.core.config import ModelConfig
from cigocc_ros.core.errors import ConfigError, DataFileError
from cigocc_ros.training.data_choice import DataChoice, shares


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sequences of one frame each."""
    folder = tmp_path_factory.mktemp('kitti')
    sequence = fixtures_boxes.write_kitti_tree(folder, seeds=(0,), size=(52, 160))
    shutil.copytree(sequence, sequence.parent / '77')
    return folder


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('data', DataChoice(Path('data'))),
        ('a/b.c', DataChoice(Path('a/b.c'))),
        ('data:0.5', DataChoice(Path('data'), None, 0.5)),
        ('data:2', DataChoice(Path('data'), None, 2.0)),
        ('data@train', DataChoice(Path('data'), ('train',))),
        ('/d/x@00,02:0.25', DataChoice(Path('/d/x'), ('00', '02'), 0.25)),
    ],
)
def test_parts_are_read(text: str, expected: DataChoice) -> None:
    assert DataChoice.parse(text) == expected


@pytest.mark.parametrize('text', ['', 'data:1.2.3'])
def test_what_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match='expected'):
        DataChoice.parse(text)


def test_folder_that_looks_like_a_choice_is_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / 'run:0.5'
    folder.mkdir()
    assert DataChoice.parse(str(folder)) == DataChoice(folder)


def test_only_the_named_sequences_are_taken(root: Path, tiny: ModelConfig) -> None:
    def names(text: str) -> list[str]:
        return [frame.sequence.name for frame in DataChoice.parse(text).frames(tiny)]

    every = names(str(root))
    assert len(every) == 2 and '77' in every
    assert names(f'{root}@77') == ['77']
    assert sorted(names(f'{root}@{",".join(every)}')) == sorted(every)


def test_named_sequence_without_frames_is_an_error(root: Path, tiny: ModelConfig) -> None:
    with pytest.raises(DataFileError, match='no labelled frames in the sequences 03'):
        DataChoice.parse(f'{root}@77,03').frames(tiny)


def test_official_split_must_be_complete(root: Path, tiny: ModelConfig) -> None:
    with pytest.raises(DataFileError, match=r'download is incomplete(.|\n)*08/voxels'):
        DataChoice.parse(f'{root}@val').frames(tiny)


def test_weights_are_for_all_or_none() -> None:
    def of(*texts: str) -> list[float] | None:
        return shares([DataChoice.parse(text) for text in texts])

    assert of('a', 'b') is None
    assert of('a:0.5', 'b:1.5') == [0.5, 1.5]
    with pytest.raises(ConfigError, match='without one: b'):
        of('a:0.5', 'b')
