"""Camera frames from files: of a recorded sequence, or of one image with its calibration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.camera import stereo_pair
from cigocc_ros.core.errors import CalibrationError, ConfigError, DataFileError
from cigocc_ros.core.frames import CameraFrame
from cigocc_ros.core.prior import AUTO, DEPTH, DEPTH_STEREO, NONE, STEREO, Prior, parse_prior
from cigocc_ros.data.camera_file import read_camera
from cigocc_ros.data.kitti_layout import (
    DEPTH_IMAGES,
    RIGHT_IMAGES,
    STEREO_DEPTH,
    FrameKey,
    Part,
    find_sequences,
    lacking,
)

if TYPE_CHECKING:
    from cigocc_ros.data.kitti_sequence import KittiSequence
    from cigocc_ros.data.label_images import LabelImages
    from cigocc_ros.data.stereo_config import StereoConfig

PRIOR_PARTS: dict[Prior, Part] = {
    STEREO: RIGHT_IMAGES,
    DEPTH: DEPTH_IMAGES,
    DEPTH_STEREO: STEREO_DEPTH,
}
"""What a kind of prior is made of, beside the left image."""


def sequence_prior(
    sequence: KittiSequence, source: str, frame_ids: Sequence[str] | None = None
) -> Prior:
    """Return the kind of prior that a source of `FILE_SOURCES` means for frames of a sequence.

    None are all frames. `auto` is stereo where there are right images, else none. Raises
    DataFileError where frames lack what the prior is made of, also where only some have a right
    image: nobody asked for a mixture.
    """
    frame_ids = sequence.frame_ids if frame_ids is None else frame_ids
    if source == AUTO:
        missing = set(sequence.frames_without_right) & set(frame_ids)
        if len(missing) == len(frame_ids):
            return NONE
    prior = STEREO if source == AUTO else parse_prior(source)
    part = PRIOR_PARTS.get(prior)
    text = None if part is None else lacking(sequence.path, list(frame_ids), part)
    if text is not None:
        raise DataFileError(
            f'a {prior} prior needs a file of every frame: {text}; or choose the prior none'
        )
    return prior


def sequence_frame(
    sequence: KittiSequence,
    frame_id: str,
    prior: Prior,
    semantics: LabelImages | None = None,
    stereo: StereoConfig | None = None,
) -> CameraFrame:
    """Return a frame of a sequence with a kind of prior; raise DataFileError where it has none.

    `semantics` are the label images that give its classes, if any; `stereo` settings of the
    matcher other than its own.
    """
    image = sequence.image(frame_id)
    return CameraFrame(
        image=image,
        camera=sequence.camera_left,
        cam_from_velo=sequence.cam_from_velo,
        stamp_ns=sequence.stamp_ns(frame_id),
        frame_id=sequence.name,
        depth_m=_sequence_depth(sequence, frame_id, image, prior, stereo),
        classes=semantics.train_ids(FrameKey(sequence.name, frame_id)) if semantics else None,
    )


class DataFrames:
    """The frames of all sequences below a folder, in order, each read when it is asked for."""

    def __init__(self, root: Path, source: str, stereo: StereoConfig | None = None) -> None:
        """List them; `source` of `FILE_SOURCES` says which prior they get; DataFileError.

        `stereo` are settings of the matcher other than its own.
        """
        from cigocc_ros.data.kitti_sequence import KittiSequence  # needs OpenCV

        self.sequences = [KittiSequence(folder) for folder in find_sequences(root)]
        self._stereo = stereo
        self.priors = [sequence_prior(sequence, source) for sequence in self.sequences]
        self._keys = [
            (sequence, frame_id, prior)
            for sequence, prior in zip(self.sequences, self.priors, strict=True)
            for frame_id in sequence.frame_ids
        ]

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._keys)

    def __getitem__(self, index: int) -> CameraFrame:
        """Read one frame."""
        return sequence_frame(*self._keys[index], stereo=self._stereo)


def evenly(total: int, count: int) -> list[int]:
    """Return at most `count` different indices below `total`, evenly spread, 0 among them."""
    if count < 1:
        raise ConfigError(f'--frames: expected at least 1, found {count}')
    return sorted({index * total // count for index in range(min(count, total))} if total else [])


def image_frame(
    image: Path,
    calib: Path | None,
    right: Path | None = None,
    depth: Path | None = None,
    classes: NDArray[np.uint8] | None = None,
    stereo: StereoConfig | None = None,
) -> CameraFrame:
    """Read one image with its calibration and, where given, its right image or depth file.

    `classes` are train ids (h, w) uint8 of the same view, 0 = unknown.
    """
    from cigocc_ros.data.image_files import read_depth_file, read_image  # needs OpenCV
    from cigocc_ros.data.stereo_config import DEFAULT_STEREO
    from cigocc_ros.data.stereo_depth import stereo_depth_m

    if calib is None:
        raise CalibrationError(
            f'{image}: an image alone has no calibration; give --calib with a KITTI calib.txt or '
            'a YAML file of fx, fy, cx, cy (pixels) and cam_from_velo (rows of the transform)'
        )
    if right is not None and depth is not None:
        raise ConfigError('give --right or --depth, not both')
    pixels = read_image(image)
    mounted = read_camera(calib, pixels.shape[1], pixels.shape[0])
    prior = None if depth is None else read_depth_file(depth)
    if right is not None:
        if mounted.right is None:
            raise CalibrationError(f'{calib}: no right camera (row P3, or key baseline_m)')
        pair = stereo_pair(mounted.left, mounted.right)
        config = stereo or DEFAULT_STEREO
        prior = stereo_depth_m(pixels, read_image(right), *pair, config=config)
    return CameraFrame(
        pixels,
        mounted.left,
        mounted.cam_from_velo,
        0,
        image.stem,
        depth_m=prior,
        classes=classes,
    )


def _sequence_depth(
    sequence: KittiSequence,
    frame_id: str,
    image: NDArray[np.uint8],
    prior: Prior,
    stereo: StereoConfig | None,
) -> NDArray[np.float32] | None:
    from cigocc_ros.data.stereo_config import DEFAULT_STEREO
    from cigocc_ros.data.stereo_depth import stereo_depth_m

    if prior == NONE:
        return None
    if prior == DEPTH:
        return sequence.depth(frame_id)
    if prior == DEPTH_STEREO:
        return sequence.stereo_depth(frame_id)
    pair = stereo_pair(sequence.camera_left, sequence.camera_right)
    right = sequence.image(frame_id, 'right')
    return stereo_depth_m(image, right, *pair, config=stereo or DEFAULT_STEREO)
