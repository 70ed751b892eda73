"""Label images of any segmentation network, by frame: class ids per pixel of the left image.

A folder of them lies in the layout of the data, ROOT/sequences/SS/FFFFFF.png, one uint8 channel;
`sequences` may be left out, and masks_2/ may stand before the file, as in generated data.
`core.class_presets` says what the ids of a network mean.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.class_presets import PRESETS, train_id_table
from cigocc_ros.core.errors import ConfigError, DataFileError
from cigocc_ros.data.image_files import read_label_image
from cigocc_ros.data.kitti_layout import CLASS_IMAGES, FrameKey


@dataclass(frozen=True)
class LabelImages:
    """The label images below a folder, translated to train ids; `preset` says what ids mean."""

    root: Path
    preset: str

    def __post_init__(self) -> None:
        """Raise ConfigError for an unknown set of classes, DataFileError without the folder."""
        train_id_table(self.preset)
        require_folder(self.root)

    @property
    def meaning(self) -> str:
        """What the ids are taken for: the name of a set, or a hash of what a file says."""
        if self.preset in PRESETS:
            return self.preset
        return hashlib.sha256(train_id_table(self.preset).tobytes()).hexdigest()

    def path(self, frame: FrameKey) -> Path:
        """Return the file of a frame; DataFileError where there is none."""
        return label_image_path(self.root, frame)

    def has(self, frame: FrameKey) -> bool:
        """Say whether there is a label image of a frame."""
        return has_label_image(self.root, frame)

    def train_ids(self, frame: FrameKey) -> NDArray[np.uint8]:
        """Return train ids 1..19 of the pixels, 0 = unknown, (H, W) uint8; raise DataFileError."""
        return read_train_ids(self.path(frame), self.preset)


def require_folder(root: Path) -> None:
    """Raise DataFileError unless there is such a folder."""
    if not root.is_dir():
        raise DataFileError(f'{root}: no such folder of label images')


def label_image_path(root: Path, frame: FrameKey) -> Path:
    """Return the file of a frame below a folder of label images; DataFileError without one."""
    places = _places(root, frame)
    for place in places:
        if place.is_file():
            return place
    raise DataFileError(f'no label image of frame {frame}: expected {places[0]}')


def has_label_image(root: Path, frame: FrameKey) -> bool:
    """Say whether a frame has a file below a folder of label images."""
    return any(place.is_file() for place in _places(root, frame))


def _places(root: Path, frame: FrameKey) -> list[Path]:
    name, folder = f'{frame.frame_id}.png', root / 'sequences' / frame.sequence
    return [folder / name, folder / CLASS_IMAGES.folder / name, root / frame.sequence / name]


def parse_label_images(text: str) -> LabelImages:
    """Read DIR:CLASSES, e.g. `labels:cityscapes`; raise ConfigError, DataFileError."""
    root, colon, preset = text.rpartition(':')
    if not colon or not root:
        raise ConfigError(
            f'expected DIR:CLASSES with classes of {", ".join(PRESETS)} or a YAML file, found '
            f'{text!r}'
        )
    return LabelImages(Path(root), preset)


def read_train_ids(path: Path, preset: str) -> NDArray[np.uint8]:
    """Return the train ids 1..19 of a label image, 0 = unknown, (H, W) uint8.

    `preset` says what its ids mean. Raises ConfigError for an unknown one, DataFileError for a
    file that is no label image or has none of its classes.
    """
    labels: NDArray[np.uint8] = train_id_table(preset)[read_label_image(path)]
    if not labels.any():
        raise DataFileError(f'{path}: no id of it is a class of {preset!r}; is it of another set?')
    return labels
