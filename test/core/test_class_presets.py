"""Ids of other people's networks become train ids; what is not known stays unknown."""

import numpy as np
import pytest

from cigocc_ros.core.class_presets import IDS, PRESETS, class_set, table_of, train_id_table
from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.labels import CLASS_NAMES


def named(preset: str, foreign: int) -> str:
    return CLASS_NAMES[train_id_table(preset)[foreign]]


@pytest.mark.parametrize('preset', PRESETS)
def test_a_table_translates_a_label_image(preset):
    table = train_id_table(preset)
    assert table.dtype == np.uint8 and table.shape == (256,)
    assert table[200] == 0  # an id that no set has
    assert {'car', 'road', 'building', 'vegetation'} <= {CLASS_NAMES[k] for k in np.unique(table)}
    assert table[np.full((2, 3), 200, np.uint8)].shape == (2, 3)


@pytest.mark.parametrize(
    ('preset', 'foreign', 'expected'),
    [
        ('cityscapes', 0, 'road'),
        ('cityscapes', 13, 'car'),
        ('cityscapes', 10, 'empty'),  # sky
        ('cityscapes', 12, 'empty'),  # rider: a bicyclist or a motorcyclist
        ('cityscapes_ids', 7, 'road'),
        ('cityscapes_ids', 0, 'empty'),  # unlabeled
        ('mapillary', 20, 'bicyclist'),
        ('mapillary', 64, 'empty'),  # ego vehicle
        ('ade20k', 6, 'road'),
        ('ade20k', 2, 'empty'),  # sky
        ('semantic_kitti', 19, 'traffic-sign'),
        ('semantic_kitti_raw', 252, 'car'),
        ('semantic_kitti_raw', 1, 'empty'),  # outlier
    ],
)
def test_ids_mean_what_their_makers_say(preset, foreign, expected):
    assert named(preset, foreign) == expected


@pytest.mark.parametrize(
    ('ids', 'message'),
    [
        ({'lorry': (3,)}, 'unknown class .lorry.'),
        ({'car': (256,)}, 'ids must be 0 to 255, found 256'),
        ({'car': (3,), 'road': (3,)}, "id 3 is both 'car' and 'road'"),
    ],
)
def test_wrong_mappings_are_refused(ids, message):
    with pytest.raises(ConfigError, match=message):
        table_of(ids)


def test_an_unknown_set_names_those_that_are_known():
    with pytest.raises(ConfigError, match='known: semantic_kitti'):
        train_id_table('coco')


@pytest.mark.parametrize('preset', PRESETS)
def test_a_set_knows_its_ids(preset):
    found = class_set(preset)
    assert list(IDS) == list(PRESETS)
    assert found.known[found.table > 0].all()
    assert found.known.sum() == len({one for one in IDS[preset] if one < 256})
    assert not found.known[200]


@pytest.mark.parametrize(
    ('preset', 'known', 'foreign'),
    [
        ('cityscapes', 10, 19),  # sky is known, and means nothing here
        ('cityscapes_ids', 33, 34),
        ('mapillary', 65, 66),
        ('ade20k', 149, 150),
        ('semantic_kitti', 0, 20),
        ('semantic_kitti_raw', 99, 100),
    ],
)
def test_an_id_of_another_set_is_told_from_one_without_a_class(preset, known, foreign):
    found = class_set(preset)
    assert found.known[known] and not found.known[foreign] and found.table[foreign] == 0


def written(folder, text):
    path = folder / 'mine.yaml'
    path.write_text(text)
    return str(path)


def test_a_file_says_what_the_ids_of_ones_own_network_mean(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    path = written(tmp_path, 'road: [3]\nperson: [1, 7]\nunknown: [0, 255]\n')
    for name in (path, '~/mine.yaml'):
        found = class_set(name)
        assert CLASS_NAMES[found.table[3]] == 'road' and CLASS_NAMES[found.table[7]] == 'person'
        assert np.flatnonzero(found.table).tolist() == [1, 3, 7]
        assert np.flatnonzero(found.known).tolist() == [0, 1, 3, 7, 255]


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('lorry: [3]', 'mine.yaml: unknown class .lorry.'),
        ('car: [3]\nroad: [3]', "mine.yaml: id 3 is both 'car' and 'road'"),
        ('car: [300]', 'ids must be 0 to 255, found 300'),
        ('car: 3', "mine.yaml: 'car': expected a list of ids, e.g. .0, 7., found 3"),
        ('car: [yes]', 'expected a list of ids'),
        ('car: [3.5]', 'expected a list of ids'),
        ('- car', 'expected a mapping, found list'),
        ('{}', 'expected names of classes with lists of ids'),
        ('car: [', 'not valid YAML'),
    ],
)
def test_a_file_that_says_nothing_is_refused(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        class_set(written(tmp_path, text))


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r'gone\.yaml'):
        class_set(str(tmp_path / 'gone.yaml'))
