"""Bring a teacher's channels to the width of the student, linearly, fixed and without training.

The rows are those of stacked random orthogonal matrices. Each row has unit length, so a channel of
the student has, on average, the mean square of a channel of the teacher. With fewer rows than
teacher channels it is an orthogonal projection, which keeps angles and distances as well as a map
chosen without looking at the data can; with more rows it loses nothing.

Fixed rather than learned, because the same map must serve both uses of the features: as the target
of the student and, in its place, as the input of the fusion.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.arrays import read_array
from cigocc_ros.core.errors import ConfigError, DataFileError
from cigocc_ros.core.files import replacing, write_atomically
from cigocc_ros.core.typed_yaml import from_mapping, to_mapping
from cigocc_ros.core.yaml_json import load_json
from cigocc_ros.data.kitti_sequence import Side
from cigocc_ros.runtime.preprocess import ImageFit
from cigocc_ros.training.teacher.align import align, features_of_cells, valid_cells
from cigocc_ros.training.teacher.files import read_output
from cigocc_ros.training.teacher.output import TeacherInfo, TeacherOutput, as_features

MAX_STUDENT_CHANNELS = 512
"""Rows that are stored with a cache: the widest student that it can teach."""
_SEED = 0


def make_projection(teacher_channels: int) -> NDArray[np.float32]:
    """Return the rows to store, (MAX_STUDENT_CHANNELS, teacher_channels) float32."""
    rng = np.random.default_rng((_SEED, teacher_channels))
    blocks = -(-MAX_STUDENT_CHANNELS // teacher_channels)
    rows = [_orthogonal(teacher_channels, rng) for _ in range(blocks)]
    return np.concatenate(rows)[:MAX_STUDENT_CHANNELS].astype(np.float32)


def project(
    features: NDArray[np.float32], rows: NDArray[np.float32], student_channels: int
) -> NDArray[np.float32]:
    """Map (C, h, w) to (student_channels, h, w); raise ConfigError where there are too few rows.

    `rows` are those of `make_projection`.
    """
    if not 0 < student_channels <= len(rows):
        raise ConfigError(
            f'a teacher cache serves 1..{len(rows)} student channels, the model config has '
            f'semantic_channels = {student_channels}'
        )
    mapped: NDArray[np.float32] = np.einsum(
        'sc,chw->shw', rows[:student_channels], features, optimize=True
    )
    return mapped


def _orthogonal(size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    q, r = np.linalg.qr(rng.standard_normal((size, size)))
    orthogonal: NDArray[np.float64] = q * np.sign(np.diag(r))
    return orthogonal


INFO_FILE, PROJECTION_FILE = 'teacher.json', 'projection.npy'


def frame_file(folder: Path, sequence_name: str, frame_id: str, side: Side = 'left') -> Path:
    """Return where the file of an image lies."""
    name = frame_id if side == 'left' else f'{frame_id}_{side}'
    return folder / 'sequences' / sequence_name / f'{name}.npz'


@dataclass(frozen=True, eq=False)
class TeacherTargets:
    """What a training sample is made from, on the teacher's own grid.

    grid (C, gh, gw) float16, rows (h, gh), columns (w, gw) as in AlignedTeacher. Where the student
    is as narrow as the teacher or narrower, the grid has its channels already; else mixing (Csem,
    C) float32 makes them. masks (19, h, w) bool; masks_valid (19, h, w) bool, per class, because a
    teacher may not know all of them.
    """

    grid: NDArray[np.float16]
    rows: NDArray[np.float32]
    columns: NDArray[np.float32]
    mixing: NDArray[np.float32] | None
    masks: NDArray[np.bool_]
    masks_valid: NDArray[np.bool_]

    @property
    def features(self) -> NDArray[np.float32]:
        """The student's channels, (Csem, h, w), NaN where the teacher says nothing."""
        return student_features(self.grid, self.rows, self.columns, self.mixing)


def student_features(
    grid: NDArray[np.float16],
    rows: NDArray[np.float32],
    columns: NDArray[np.float32],
    mixing: NDArray[np.float32] | None,
) -> NDArray[np.float32]:
    """Bring a teacher's grid to stride 4 of the model's input; the arrays of TeacherTargets."""
    features = features_of_cells(grid.astype(np.float32), rows, columns)
    if mixing is not None:
        features = project(features, mixing, len(mixing))
    features[:, ~valid_cells(rows, columns)] = np.nan
    return features


class TeacherCache:
    """Reads a folder that `cigocc teacher` wrote."""

    def __init__(self, folder: Path) -> None:
        """Open a folder; raise DataFileError where it is none or of another version."""
        self.folder = Path(folder)
        self.info = read_folder_info(self.folder)
        self._rows = _read_projection(self.folder / PROJECTION_FILE, self.info.channels)

    def has(self, sequence_name: str, frame_id: str, side: Side = 'left') -> bool:
        """Say whether there is a file of this image."""
        return frame_file(self.folder, sequence_name, frame_id, side).is_file()

    def load(self, sequence_name: str, frame_id: str, side: Side = 'left') -> TeacherOutput:
        """Return what the teacher said; raise DataFileError where it is missing or another's."""
        path = frame_file(self.folder, sequence_name, frame_id, side)
        output, info = read_output(path)
        if info != self.info:
            raise DataFileError(
                f'{path}: written by {_named(info)}, the folder is of {_named(self.info)}; '
                'delete it and run "cigocc teacher" again'
            )
        return output

    def load_targets(
        self,
        sequence_name: str,
        frame_id: str,
        fit: ImageFit,
        student_channels: int,
        side: Side = 'left',
    ) -> TeacherTargets:
        """Return targets at stride 4 of the input that `fit` makes of the image.

        `student_channels` is the semantic_channels of the model config. Raises DataFileError as
        `load` does and where the teacher saw an image of another size.
        """
        output = self.load(sequence_name, frame_id, side)
        aligned = align(output, self.info.knows, fit)
        grid, mixing = aligned.grid, None
        projected = project(grid.astype(np.float32), self._rows, student_channels)
        if student_channels <= self.info.channels:
            grid = as_features(projected)
        else:
            mixing = self._rows[:student_channels]
        return TeacherTargets(
            grid, aligned.rows, aligned.columns, mixing, aligned.masks, aligned.masks_valid
        )


def claim_folder(folder: Path, info: TeacherInfo) -> None:
    """Make `folder` a cache of this teacher, or see that it is one; raise DataFileError.

    Processes that start together write the same bytes.
    """
    if (folder / INFO_FILE).is_file():
        found = read_folder_info(folder)
        if found != info:
            raise DataFileError(
                f'{folder} holds what {_named(found)} said, this is {_named(info)}: take another '
                'folder (--out), or delete that one'
            )
        _read_projection(folder / PROJECTION_FILE, info.channels)
        return
    with replacing(folder / PROJECTION_FILE) as partial, partial.open('wb') as file:
        np.save(file, make_projection(info.channels))
    # Last, for it says that the folder is complete.
    write_atomically(folder / INFO_FILE, json.dumps(to_mapping(info), indent=1) + '\n')


def read_folder_info(folder: Path) -> TeacherInfo:
    """Return whose cache a folder is; raise DataFileError where it is none."""
    path = folder / INFO_FILE
    if not path.is_file():
        raise DataFileError(
            f'{folder}: no teacher cache, {INFO_FILE} is missing; write one with "cigocc teacher"'
        )
    try:
        return from_mapping(TeacherInfo, load_json(path), INFO_FILE)
    except ValueError as error:
        raise DataFileError(f'{path}: not the description of a teacher: {error}') from error


def _read_projection(path: Path, channels: int) -> NDArray[np.float32]:
    try:
        rows: NDArray[np.float32] = read_array(path)
    except DataFileError as error:
        raise DataFileError(f'{error}; delete the cache') from error
    if rows.shape != (MAX_STUDENT_CHANNELS, channels) or rows.dtype != np.float32:
        raise DataFileError(
            f'{path}: expected float32 ({MAX_STUDENT_CHANNELS}, {channels}), found {rows.dtype} '
            f'{rows.shape}'
        )
    return rows


def _named(info: TeacherInfo) -> str:
    return f'{info.name} ({info.version})'
