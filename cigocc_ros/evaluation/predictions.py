"""Predictions by frame: of files, or of a model that runs on the images of a data set.

Files are ROOT/sequences/SS/predictions/FFFFFF.label, uint16 raw ids.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.files import read_bytes
from cigocc_ros.core.frames import (
    CameraFrame,
    Occupancy,
    class_probability_on_grid,
    labels_on_grid,
    probability_on_grid,
)
from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID, Shape
from cigocc_ros.core.labels import IGNORE, RAW_FROM_TRAIN, train_from_raw
from cigocc_ros.core.prior import AUTO, parse_prior
from cigocc_ros.data.camera_frames import PRIOR_PARTS, sequence_frame, sequence_prior
from cigocc_ros.data.kitti_layout import (
    IMAGES,
    FrameKey,
    require_files,
    sequence_folder,
)

if TYPE_CHECKING:
    from cigocc_ros.data.label_images import LabelImages
    from cigocc_ros.data.stereo_config import StereoConfig

FOLDER = 'predictions'


class PredictionFiles:
    """The predictions below a folder, by frame."""

    def __init__(self, root: Path) -> None:
        """Take the folder above `sequences` (`sequences` itself and one sequence do too)."""
        self.root = root

    def path(self, frame: FrameKey) -> Path:
        """Return the file of a frame, whether it is there or not."""
        return sequence_folder(self.root, frame.sequence) / FOLDER / f'{frame.frame_id}.label'

    def require(self, frames: tuple[FrameKey, ...]) -> None:
        """Raise DataFileError naming the first missing file: every frame must be predicted."""
        missing = [path for path in map(self.path, frames) if not path.is_file()]
        if missing:
            raise DataFileError(
                f'{missing[0]}: missing, as are {len(missing) - 1} more of {len(frames)} '
                'predictions: run "cigocc infer" or "cigocc submit" on these frames, or choose '
                'other --sequences'
            )

    def __call__(self, frame: FrameKey) -> NDArray[np.uint8]:
        """Return the train ids 0..19 of a frame, (X, Y, Z) uint8; raise DataFileError."""
        path = self.path(frame)
        return prediction_labels(read_bytes(path), str(path))


def prediction_labels(
    content: bytes, where: str, shape: Shape = SEMANTIC_KITTI_GRID.shape
) -> NDArray[np.uint8]:
    """Return the train ids 0..19 in a prediction file; raise DataFileError beginning with `where`.

    An id that is not scored (train id 255) is refused: it breaks the official confusion matrix.
    """
    expected = 2 * math.prod(shape)
    if len(content) != expected:
        raise DataFileError(
            f'{where}: expected {expected} bytes (a uint16 a voxel of {shape}), found '
            f'{len(content)}: the file is truncated, or of another grid or kind'
        )
    raw = np.frombuffer(content, dtype='<u2').reshape(shape)
    try:
        labels = train_from_raw(raw)
    except DataFileError as error:
        raise DataFileError(f'{where}: {error}') from error
    if (labels == IGNORE).any():
        found = np.unique(raw[labels == IGNORE]).tolist()
        raise DataFileError(
            f'{where}: raw ids {found} are not scored and must not be predicted; expected those '
            f'of the 20 classes, {RAW_FROM_TRAIN.tolist()}'
        )
    return labels


Infer = Callable[[CameraFrame], Occupancy]


class SequencePredictions:
    """Run `infer` on frames of a data set; coarse voxels are spread to SemanticKITTI's size."""

    def __init__(
        self,
        infer: Infer,
        root: Path,
        frames: tuple[FrameKey, ...],
        prior: str,
        semantics: LabelImages | None = None,
        stereo: StereoConfig | None = None,
    ) -> None:
        """Check that the files of all `frames` are there; raise DataFileError naming the gaps.

        `prior` is one of core.prior.FILE_SOURCES; `semantics` are label images of every frame;
        `stereo` are settings of the matcher other than its own.
        """
        from cigocc_ros.data.kitti_sequence import KittiSequence  # needs OpenCV

        part = None if prior == AUTO else PRIOR_PARTS.get(parse_prior(prior))
        require_files(root, frames, (IMAGES,) if part is None else (IMAGES, part))
        ids: dict[str, list[str]] = defaultdict(list)
        for key in frames:
            ids[key.sequence].append(key.frame_id)
        if semantics is not None:
            for key in frames:
                semantics.path(key)
        self.infer, self.semantics, self.stereo = infer, semantics, stereo
        self._last: Occupancy | None = None
        self.sequences = {name: KittiSequence(sequence_folder(root, name)) for name in sorted(ids)}
        self.priors = {
            name: sequence_prior(sequence, prior, ids[name])
            for name, sequence in self.sequences.items()
        }

    def __call__(self, key: FrameKey) -> NDArray[np.uint8]:
        """Return the train ids of a frame, (X, Y, Z) uint8."""
        sequence = self.sequences[key.sequence]
        prior = self.priors[key.sequence]
        frame = sequence_frame(sequence, key.frame_id, prior, self.semantics, self.stereo)
        self._last = self.infer(frame)
        return labels_on_grid(self._last, SEMANTIC_KITTI_GRID)

    def probability(self) -> NDArray[np.uint8]:
        """Return 255 times what was said of being occupied in the last frame, (X, Y, Z)."""
        if self._last is None:
            raise DataFileError('no frame was predicted yet')
        return probability_on_grid(self._last, SEMANTIC_KITTI_GRID)

    def class_probability(self) -> NDArray[np.uint8] | None:
        """Return 255 times the probability of the class in the last frame, None where unsaid."""
        if self._last is None:
            raise DataFileError('no frame was predicted yet')
        return class_probability_on_grid(self._last, SEMANTIC_KITTI_GRID)

    def prior_text(self) -> str:
        """Return e.g. `stereo`, or `none (00), stereo (01, 02)`."""
        kinds = sorted(set(self.priors.values()))
        if len(kinds) == 1:
            return kinds[0]
        groups = {k: ', '.join(n for n in self.priors if self.priors[n] == k) for k in kinds}
        return ', '.join(f'{kind} ({names})' for kind, names in groups.items())
