"""Ids of other people's networks become train ids; what is not known stays unknown."""

import numpy as np
import pytest

from cigocc_ros.core.class_presets import PRESETS, table_of, train_id_table
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
