"""Label images of any segmentation network, by frame: class ids per pixel of the left image.

A folder of them lies in the layout of the data, ROOT/sequences/SS/FFFFFF.png, one uint8 channel;
`sequences` may be left out, and masks_2/ may stand before the file, as in generated data.
`core.class_presets` says what the ids of a network mean.
"""

from __future__ import annotations

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
        if not self.root.is_dir():
            raise DataFileError(f'{self.root}: no such folder of label images')

    def path(self, frame: FrameKey) -> Path:
        """Return the file of a frame; DataFileError where there is none."""
        places = self._places(frame)
        for place in places:
            if place.is_file():
                return place
        raise DataFileError(f'no label image of frame {frame}: expected {places[0]}')

    def has(self, frame: FrameKey) -> bool:
        """Say whether there is a label image of a frame."""
        return any(place.is_file() for place in self._places(frame))

    def _places(self, frame: FrameKey) -> list[Path]:
        name = f'{frame.frame_id}.png'
        first = self.root / 'sequences' / frame.sequence / name
        return [
            first,
            first.parent / CLASS_IMAGES.folder / name,
            self.root / frame.sequence / name,
        ]

    def train_ids(self, frame: FrameKey) -> NDArray[np.uint8]:
        """Return train ids 1..19 of the pixels, 0 = unknown, (H, W) uint8; raise DataFileError."""
        return read_train_ids(self.path(frame), self.preset)


def parse_label_images(text: str) -> LabelImages:
    """Read DIR:CLASSES, e.g. `labels:cityscapes`; raise ConfigError, DataFileError."""
    root, colon, preset = text.rpartition(':')
    if not colon or not root:
        raise ConfigError(
            f'expected DIR:CLASSES with classes of {", ".join(PRESETS)}, found {text!r}'
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
