"""What other people's segmentation networks call the classes of SemanticKITTI, by their ids.

A label image holds the ids of the set that its network was trained on. `train_id_table` turns them
into the train ids 1..19 of `labels`; 0 is unknown: an id of no class here, or one whose meaning
differs. The sky is unknown too, for there is no voxel of it.

Ids: Cityscapes labels.py (cityscapesScripts), Mapillary Vistas 1.2 config.json, MIT Scene Parsing
(ADE20K, 150 classes, counted from 0), semantic-kitti.yaml.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.labels import CLASS_NAMES, CLASSES, EMPTY, IGNORED_RAW_IDS, NUM_CLASSES
from cigocc_ros.core.text import excerpt
from cigocc_ros.core.yaml_json import load_yaml

TABLE_SIZE = 256
"""Label images are uint8: no set here has an id above 255 that is kept."""

CITYSCAPES: tuple[tuple[str, str | None], ...] = (
    ('road', 'road'),
    ('sidewalk', 'sidewalk'),
    ('building', 'building'),
    ('wall', 'fence'),  # SemanticKITTI's fence includes small walls
    ('fence', 'fence'),
    ('pole', 'pole'),
    ('traffic light', None),
    ('traffic sign', 'traffic-sign'),
    ('vegetation', 'vegetation'),
    ('terrain', 'terrain'),
    ('sky', 'empty'),
    ('person', 'person'),
    ('rider', None),
    ('car', 'car'),
    ('truck', 'truck'),
    ('bus', 'other-vehicle'),
    ('train', 'other-vehicle'),
    ('motorcycle', 'motorcycle'),
    ('bicycle', 'bicycle'),
)
"""Cityscapes train ids 0..18 and what SemanticKITTI calls the same thing.

None where the two disagree: a rider is a bicyclist or a motorcyclist, a traffic light is not
labelled.
"""

_CITYSCAPES_IDS: Mapping[str, tuple[int, ...]] = {
    'road': (7,),
    'sidewalk': (8,),
    'parking': (9,),
    'building': (11,),
    'fence': (12, 13, 14),  # wall, fence, guard rail
    'pole': (17, 18),  # pole, pole group
    'traffic-sign': (20,),
    'vegetation': (21,),
    'terrain': (22,),
    'person': (24,),
    'car': (26,),
    'truck': (27,),
    'other-vehicle': (28, 29, 30, 31),  # bus, caravan, trailer, train
    'motorcycle': (32,),
    'bicycle': (33,),
}
_MAPILLARY: Mapping[str, tuple[int, ...]] = {
    'fence': (3, 4, 5, 6),  # fence, guard rail, barrier, wall
    'road': (7, 8, 13, 14, 23, 24, 36, 41, 43),  # lanes, crosswalks, markings, holes in it
    'sidewalk': (2, 9, 11, 15),  # curb, curb cut, pedestrian area, sidewalk
    'parking': (10,),
    'other-ground': (12,),  # rail track
    'building': (17,),
    'person': (19,),
    'bicyclist': (20,),
    'motorcyclist': (21,),
    'terrain': (26, 28, 29),  # sand, snow, terrain
    'vegetation': (30,),
    'pole': (44, 45, 47),  # street light, pole, utility pole
    'traffic-sign': (49, 50),  # back and front
    'bicycle': (52,),
    'other-vehicle': (54, 56, 58, 59, 60),  # bus, caravan, on rails, other vehicle, trailer
    'car': (55,),
    'motorcycle': (57,),
    'truck': (61,),
}
_ADE20K: Mapping[str, tuple[int, ...]] = {
    'building': (1, 25, 48, 79, 84),  # building, house, skyscraper, hovel, tower
    'vegetation': (4, 17, 72),  # tree, plant, palm
    'road': (6, 54),  # road, runway
    'terrain': (9, 13, 29, 46, 91, 94),  # grass, earth, field, sand, dirt track, land
    'sidewalk': (11, 52),  # sidewalk, path
    'person': (12,),
    'car': (20, 102),  # car, van
    'fence': (0, 32, 38),  # wall, fence, railing
    'traffic-sign': (43,),  # signboard
    'other-vehicle': (80,),  # bus
    'truck': (83,),
    'pole': (87, 93),  # street light, pole
    'motorcycle': (116,),
    'bicycle': (127,),
}


def _by_name(named: tuple[tuple[str, str | None], ...]) -> Mapping[str, tuple[int, ...]]:
    """Return the ids of each class here, from what each id is called, in order."""
    return {
        name: tuple(index for index, (_, ours) in enumerate(named) if ours == name)
        for name in CLASS_NAMES[1:]
    }


PRESETS: Mapping[str, Mapping[str, tuple[int, ...]]] = {
    'semantic_kitti': {name: (index,) for index, name in enumerate(CLASS_NAMES) if index},
    'semantic_kitti_raw': {c.name: tuple(i for i in c.raw_ids if i < TABLE_SIZE) for c in CLASSES},
    'cityscapes': _by_name(CITYSCAPES),
    'cityscapes_ids': _CITYSCAPES_IDS,
    'mapillary': _MAPILLARY,
    'ade20k': _ADE20K,
}
"""Name of a set -> class -> its ids there. `cityscapes` are train ids 0..18."""


IDS: Mapping[str, tuple[int, ...]] = {
    'semantic_kitti': tuple(range(NUM_CLASSES)),
    'semantic_kitti_raw': (*(i for c in CLASSES for i in c.raw_ids), *IGNORED_RAW_IDS),
    'cityscapes': tuple(range(len(CITYSCAPES))),
    'cityscapes_ids': tuple(range(34)),
    'mapillary': tuple(range(66)),
    'ade20k': tuple(range(150)),
}
"""Every id of a set, those without a class here too."""
NO_CLASS = 'unknown'
"""Key of a file of ids for those that mean nothing here."""
FILE_SUFFIXES = ('.yaml', '.yml')


@dataclass(frozen=True)
class ClassSet:
    """What the ids of label images mean.

    table: the train id 1..19 of each id, 0 = unknown, (256,) uint8. known: the ids of the set,
    (256,) bool; any other id in an image says that it is of another set.
    """

    name: str
    table: NDArray[np.uint8]
    known: NDArray[np.bool_]


def class_set(name: str) -> ClassSet:
    """Return one of PRESETS, or what a YAML file says; raise ConfigError.

    The file maps names of classes here to lists of ids, and `unknown` to ids that mean nothing.
    """
    if name in PRESETS:
        return _made(name, PRESETS[name], IDS[name])
    if not name.endswith(FILE_SUFFIXES):
        raise ConfigError(
            f'unknown set of classes {excerpt(name)}; known: {", ".join(PRESETS)}, or a file NAME'
            f'{FILE_SUFFIXES[0]} that maps classes to ids'
        )
    path = Path(name).expanduser()
    ids = _ids_of_file(load_yaml(path), str(path))
    known = [one for foreign in ids.values() for one in foreign]
    ids.pop(NO_CLASS, None)
    try:
        return _made(name, ids, known)
    except ConfigError as error:
        raise ConfigError(f'{path}: {error}') from error


def train_id_table(name: str) -> NDArray[np.uint8]:
    """Return the train id 1..19 of each id of a set, 0 = unknown, (256,) uint8.

    `labels = train_id_table('cityscapes')[image]` translates a label image. Raises ConfigError as
    `class_set` does.
    """
    return class_set(name).table


def _made(name: str, ids: Mapping[str, tuple[int, ...]], known: Iterable[int]) -> ClassSet:
    mask = np.zeros(TABLE_SIZE, bool)
    mask[[i for i in known if 0 <= i < TABLE_SIZE]] = True
    return ClassSet(name, table_of(ids), mask)


def _ids_of_file(content: Mapping[str, Any], where: str) -> dict[str, tuple[int, ...]]:
    """Return class -> ids of a file; raise ConfigError naming the entry that is neither."""
    if not content:
        raise ConfigError(f'{where}: expected names of classes with lists of ids, e.g. road: [0]')
    found = {}
    for name, ids in content.items():
        if not isinstance(ids, list) or not all(type(one) is int for one in ids):
            raise ConfigError(
                f'{where}: {excerpt(name)}: expected a list of ids, e.g. [0, 7], found '
                f'{excerpt(ids)}'
            )
        found[str(name)] = tuple(ids)
    return found


def table_of(ids: Mapping[str, tuple[int, ...]]) -> NDArray[np.uint8]:
    """Return the table (256,) uint8 of a mapping from names of classes to foreign ids.

    Raises ConfigError for a class that is not in `labels.CLASS_NAMES`, for an id that is no uint8,
    and for one that is given to two classes.
    """
    table = np.zeros(TABLE_SIZE, np.uint8)
    for name, foreign in ids.items():
        if name not in CLASS_NAMES:
            raise ConfigError(f'unknown class {name!r}; known: {", ".join(CLASS_NAMES[1:])}')
        for one in foreign:
            if not 0 <= one < TABLE_SIZE:
                raise ConfigError(f'class {name!r}: ids must be 0 to 255, found {one}')
            train_id = CLASS_NAMES.index(name)
            if table[one] not in (EMPTY, train_id):
                raise ConfigError(
                    f'id {one} is both {CLASS_NAMES[table[one]]!r} and {name!r}; keep one'
                )
            table[one] = train_id
    return table
