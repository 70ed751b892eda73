"""What a teacher says of one image, and the protocol that every teacher keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.labels import CLASS_NAMES, EMPTY, IGNORE
from cigocc_ros.data.kitti_sequence import KittiSequence, Side

MASK_CLASSES: tuple[str, ...] = CLASS_NAMES[1:]
"""The channels of M_s: train ids 1..19, `empty` has no mask."""


@dataclass(frozen=True)
class TeacherInfo:
    """Who the teacher is. Outputs of teachers that differ here must not be mixed."""

    name: str
    version: str
    """Everything that changes its outputs: weights, thresholds, prompts, scale."""
    features: str
    """What the feature channels are, in words."""
    channels: int
    classes: tuple[str, ...]
    """Names of the mask channels, in order."""
    known_classes: tuple[str, ...]
    """The classes that it can tell; the mask of any other says nothing."""

    def __post_init__(self) -> None:
        """Raise DataFileError where the classes are not those of this package."""
        if self.classes != MASK_CLASSES:
            raise DataFileError(
                f'teacher {self.name!r}: expected masks of {MASK_CLASSES}, found {self.classes}'
            )
        strange = sorted(set(self.known_classes) - set(MASK_CLASSES))
        if strange or not self.known_classes or self.channels < 1:
            raise DataFileError(
                f'teacher {self.name!r}: expected at least one channel and known classes among '
                f'{MASK_CLASSES}, found {self.channels} and {self.known_classes}'
            )

    @property
    def knows(self) -> NDArray[np.bool_]:
        """Which mask channels the teacher can tell, (19,) bool."""
        return np.array([name in self.known_classes for name in self.classes])


@dataclass(frozen=True, eq=False)
class TeacherOutput:
    """Features and class masks of one source image of (H, W) pixels.

    features (C, h, w) float16 sit on a regular grid of points: point (i, j) lies at the pixel
    `origin_px + (i, j) * step_px`, (row, column), pixel centres being integers. masks (19, H, W)
    bool may overlap; valid (H, W) bool says where they mean anything.
    """

    features: NDArray[np.float16]
    origin_px: tuple[float, float]
    step_px: tuple[float, float]
    masks: NDArray[np.bool_]
    valid: NDArray[np.bool_]

    def __post_init__(self) -> None:
        """Raise DataFileError for shapes and numbers that do not fit each other."""
        wanted = (len(MASK_CLASSES), *self.valid.shape)
        if self.valid.ndim != 2 or self.masks.shape != wanted:
            raise DataFileError(
                f'teacher output: expected masks (19, H, W) and valid (H, W), found '
                f'{self.masks.shape} and {self.valid.shape}'
            )
        if self.features.ndim != 3 or 0 in self.features.shape:
            raise DataFileError(
                f'teacher output: expected features (C, h, w), found {self.features.shape}'
            )
        if min(self.step_px) <= 0 or not np.isfinite([*self.origin_px, *self.step_px]).all():
            raise DataFileError(
                'teacher output: the feature grid needs a finite origin and positive steps, found '
                f'{self.origin_px} and {self.step_px}'
            )
        types = [array.dtype.name for array in (self.features, self.masks, self.valid)]
        if types != ['float16', 'bool', 'bool'] or not np.isfinite(self.features).all():
            raise DataFileError(
                'teacher output: expected finite float16 features and bool masks, found '
                f'{", ".join(types)}'
            )

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) of the source image in pixels."""
        return self.valid.shape[0], self.valid.shape[1]


class Teacher(Protocol):
    """Looks at one frame at a time."""

    @property
    def info(self) -> TeacherInfo:
        """Who it is; the same for every frame."""

    def look(self, sequence: KittiSequence, frame_id: str, side: Side = 'left') -> TeacherOutput:
        """Return what it says of an image; raise DataFileError for a frame it cannot use."""


def cells_of_scale(scale: float, stride: int) -> tuple[float, float]:
    """Return (origin, step) in source pixels of cells of `stride` pixels of a scaled image.

    Pixel areas map onto pixel areas, so cell 0 is centred at stride / (2 scale) - 0.5.
    """
    step = stride / scale
    return 0.5 * step - 0.5, step


def masks_of_classes(
    classes: NDArray[np.uint8],
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Turn train ids (H, W), 255 = unknown, into masks (19, H, W) and valid (H, W).

    0, which is the sky in images, is known and in no mask.
    """
    train_ids = np.arange(EMPTY + 1, len(CLASS_NAMES), dtype=np.uint8)
    return classes == train_ids[:, None, None], classes != IGNORE


def as_features(values: NDArray[Any]) -> NDArray[np.float16]:
    """Round to float16, contiguous; values beyond its range take its end."""
    limit = float(np.finfo(np.float16).max)
    return np.ascontiguousarray(np.clip(values, -limit, limit), dtype=np.float16)
