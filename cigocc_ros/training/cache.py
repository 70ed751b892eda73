"""Prepared frames on disk: which there are, whether they still are what their sources are now."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cigocc_ros.core.arrays import Arrays, read_arrays, read_comment, write_arrays
from cigocc_ros.core.config import ModelConfig
from cigocc_ros.core.errors import DataFileError
from cigocc_ros.data import kitti_layout as layout
from cigocc_ros.data.kitti_layout import FrameKey, find_sequences
from cigocc_ros.data.kitti_sequence import LEFT_ONLY, KittiSequence, Side
from cigocc_ros.data.label_images import LabelImages
from cigocc_ros.data.partial_truth import turned_files
from cigocc_ros.data.stereo_config import DEFAULT_STEREO, StereoConfig
from cigocc_ros.evaluation.ground_truth import LabelArrays
from cigocc_ros.training.teacher.folder import INFO_FILE, PROJECTION_FILE, frame_file

CACHE_VERSION = 4
SOURCE_PARTS = (
    layout.IMAGES,
    layout.RIGHT_IMAGES,
    layout.DEPTH_IMAGES,
    layout.STEREO_DEPTH,
    layout.CLASS_IMAGES,
    layout.SCANS,
    layout.POINT_LABELS,
)
"""What a frame is made of, besides calibration, ground truth and teacher."""
VOLUME_PARTS = (layout.VOXEL_LABELS, layout.VOXEL_INVALID)
IMAGE_TARGETS = (layout.SCANS, layout.DEPTH_IMAGES, layout.CLASS_IMAGES, layout.STEREO_DEPTH)
"""Any of them teaches without a volume; labels of points need the scan."""


@dataclass(frozen=True)
class FrameRef:
    """Where one frame comes from and where its prepared arrays lie."""

    sequence: Path
    frame_id: str
    cached: Path
    side: Side = 'left'
    truth: Path | None = None
    """Folder of ground truth as `cigocc evaluate` takes it; None for the frame's own volume."""
    teacher: Path | None = None
    """Folder that `cigocc teacher` wrote; None for no teacher."""
    semantics: LabelImages | None = None
    """Label images that give it classes from outside."""
    turned: Path | None = None
    """Volume whose grid was turned against the camera, in place of the ground truth."""
    volumes: bool = True
    """Whether it has ground truth in 3D; without, its images alone teach (stage `eyes`)."""
    sources: tuple[Path, ...] = ()
    """Every file that it is made of, as far as there is one."""

    @property
    def is_prepared(self) -> bool:
        """Whether there are arrays of exactly these sources, each as it is now."""
        return stored_fingerprint(self.cached) == self.fingerprint()

    @property
    def teaches_without_volumes(self) -> bool:
        """Whether anything but a volume says what its image shows."""
        folders = {path.parent.name for path in self.sources if path.stem == self.frame_id}
        parts = {part.folder for part in IMAGE_TARGETS}
        said = self.teacher is not None or self.semantics is not None
        return said or bool(folders & parts)

    def load(self) -> Arrays:
        """Return the prepared arrays; raise DataFileError where there are none."""
        try:
            return read_arrays(self.cached)
        except DataFileError as error:
            raise DataFileError(
                f'{self.cached}: not a cached frame ({error}); delete it and prepare again'
            ) from error

    def fingerprint(self) -> str:
        """Return what tells these sources from any others: names, sizes and times of change.

        A source that is added, removed, replaced, or unpacked again with an older time changes it.
        """
        facts = []
        for path in self.sources:
            name = f'{path.parent.name}/{path.name}'
            try:
                status = path.stat()
            except OSError:
                facts.append((name, -1, -1))
            else:
                facts.append((name, status.st_size, status.st_mtime_ns))
        return _digest(json.dumps(facts), 32)


def find_frames(
    root: Path,
    config: ModelConfig,
    cache: Path | None = None,
    sequences: Collection[str] | None = None,
    truth: Path | None = None,
    sides: Collection[Side] = LEFT_ONLY,
    teacher: Path | None = None,
    stereo: StereoConfig = DEFAULT_STEREO,
    semantics: LabelImages | None = None,
    volumes: bool = True,
) -> list[FrameRef]:
    """List the frames with voxel labels under root/sequences; raise DataFileError if none.

    They are cached inside `root`, or in a folder of their own inside `cache` where given.
    `sequences` names those to take, None takes all. `truth` is a folder of SS_FFFFFF.npz that
    replaces the volumes of the data set. The right camera is a view of its own where `sides` has
    it and the frame has a lidar scan, which alone gives depth and classes to it. `teacher` is the
    cache of what a teacher said of the images. `stereo` are the settings of the matcher.
    `semantics` are label images of another network, of every left image.

    Without `volumes` all images count from which anything in 2D can be learnt; an image of which
    nothing is known is a DataFileError. Label images and what the teacher said may then be
    missing, but not of all images.
    """
    cache = root / 'cache' if cache is None else cache / _folder_key(root)
    cache = cache / cache_key(config, truth, teacher, stereo, semantics, volumes)
    frames = [
        frame
        for folder in find_sequences(root)
        if sequences is None or folder.name in sequences
        for frame in _SequenceFrames(folder, cache, truth, teacher, semantics, volumes).frames(
            sides
        )
    ]
    if not volumes:
        _require_targets(root, frames)
        if teacher is not None and not any(frame.teacher for frame in frames):
            raise DataFileError(
                f'{teacher}: nothing there of the images of {root}: write it with "cigocc teacher '
                '--all-frames"'
            )
        if semantics is not None and not any(frame.semantics for frame in frames):
            semantics.path(FrameKey(frames[0].sequence.name, frames[0].frame_id))  # raises
    if not frames:
        expected = f'{root}/sequences/*/voxels/*.label' if truth is None else f'{truth}/*_*.npz'
        raise DataFileError(
            f'no labelled frames under {root}: expected {expected}; '
            'write synthetic ones with "cigocc synthesize"'
        )
    return frames


def _require_targets(root: Path, frames: Iterable[FrameRef]) -> None:
    """Raise DataFileError naming the images of which nothing is known."""
    frames = list(frames)
    empty = [frame for frame in frames if not frame.teaches_without_volumes]
    if empty:
        names = ', '.join(
            f'{one.sequence.name}/{one.frame_id}' for one in empty[: layout.MAX_NAMED]
        )
        wanted = ', '.join(f'{part.folder}/' for part in IMAGE_TARGETS)
        raise DataFileError(
            f'{root}: {len(empty)} of {len(frames)} images have nothing to learn from, the first '
            f'are {names}: expected one of {wanted} for each, or label images (--semantic-prior), '
            'or what a teacher said (--teacher); leave other sequences out with DIR@SEQUENCES'
        )


def turned_frames(frames: Iterable[FrameRef]) -> list[FrameRef]:
    """Return the frames once more for each turned volume that lies beside their ground truth.

    `cigocc voxelize --turned` writes them; without ground truth of their own there are none.
    """
    return [
        replace(
            frame,
            turned=path,
            cached=frame.cached.with_name(f'{frame.cached.stem}_{path.stem}.npz'),
            sources=(*frame.sources, path),
        )
        for frame in frames
        if frame.truth is not None
        for path in turned_files(frame.truth, frame.sequence.name, frame.frame_id)
    ]


class _SequenceFrames:
    """The files of one sequence, listed once."""

    def __init__(
        self,
        folder: Path,
        cache: Path,
        truth: Path | None,
        teacher: Path | None,
        semantics: LabelImages | None,
        volumes: bool,
    ) -> None:
        self.sequence = KittiSequence(folder)
        self.cache, self.teacher = cache / folder.name, teacher
        self.truth = truth if volumes else None
        self.semantics, self.volumes = semantics, volumes
        own_volumes = volumes and truth is None
        parts = (*SOURCE_PARTS, *VOLUME_PARTS) if own_volumes else SOURCE_PARTS
        self.files = {part: part.files(folder) for part in parts}
        first = self.sequence.frame_ids[0]
        self.shared = [folder / layout.CALIB, self.sequence.image_path(first)]
        if teacher is not None:
            self.shared += [teacher / INFO_FILE, teacher / PROJECTION_FILE]

    def frames(self, sides: Collection[Side]) -> Iterator[FrameRef]:
        """Yield the views of the frames that have ground truth, or of all without volumes."""
        for frame_id in self._labelled() if self.volumes else self.sequence.frame_ids:
            for side in sides:
                if side == 'left' or self._serves(frame_id):
                    yield self._frame(frame_id, side)

    def _serves(self, frame_id: str) -> bool:
        """Say whether the right image of a frame is a view to learn from."""
        if not self._has(frame_id, layout.RIGHT_IMAGES):
            return False
        taught = self.teacher is not None and not self.volumes
        return (
            self._has(frame_id, layout.SCANS)
            or (not self.volumes and self._has(frame_id, layout.STEREO_DEPTH))
            or (taught and self._said(frame_id, 'right').is_file())
        )

    def _said(self, frame_id: str, side: Side) -> Path:
        """Return the file of what the teacher said of an image."""
        folder = self.teacher or Path()
        return frame_file(folder, self.sequence.name, frame_id, side)

    def _shown(self, frame_id: str, side: Side) -> LabelImages | None:
        """Return the label images where they show this view."""
        if self.semantics is None or side != 'left':
            return None
        key = FrameKey(self.sequence.name, frame_id)
        return self.semantics if self.volumes or self.semantics.has(key) else None

    def _frame(self, frame_id: str, side: Side) -> FrameRef:
        own = (files[frame_id] for files in self.files.values() if frame_id in files)
        name = self.sequence.name
        sources = [*self.shared, *own]
        if self.truth is not None:
            sources.append(self.truth / f'{name}_{frame_id}.npz')
        teacher = self.teacher
        if teacher is not None:
            said = self._said(frame_id, side)
            sources.append(said)
            teacher = teacher if self.volumes or said.is_file() else None
        shown = self._shown(frame_id, side)
        if shown is not None:
            sources.append(shown.path(FrameKey(name, frame_id)))
        file_name = f'{frame_id}.npz' if side == 'left' else f'{frame_id}_{side}.npz'
        return FrameRef(
            sequence=self.sequence.path,
            frame_id=frame_id,
            cached=self.cache / file_name,
            side=side,
            truth=self.truth,
            teacher=teacher,
            semantics=shown,
            volumes=self.volumes,
            sources=tuple(sources),
        )

    def _labelled(self) -> list[str]:
        known = self.sequence.frame_ids
        if self.truth is None:
            return [frame_id for frame_id in known if self._has(frame_id, layout.VOXEL_LABELS)]
        keys = LabelArrays(self.truth).frames
        return [k.frame_id for k in keys if k.sequence == self.sequence.name]

    def _has(self, frame_id: str, *parts: layout.Part) -> bool:
        return all(frame_id in self.files[part] for part in parts)


def cache_key(
    config: ModelConfig,
    truth: Path | None = None,
    teacher: Path | None = None,
    stereo: StereoConfig = DEFAULT_STEREO,
    semantics: LabelImages | None = None,
    volumes: bool = True,
) -> str:
    """Name a cache by everything its arrays depend on besides the data."""
    sizes: dict[str, Any] = {
        'version': CACHE_VERSION,
        'image': config.image_size,
        'output': config.output_shape,
        'query': config.query_shape,
    }
    if not volumes:
        sizes['volumes'] = False
    elif truth is not None:
        sizes['truth'] = str(truth.resolve())
    if teacher is not None:
        sizes |= {'teacher': str(teacher.resolve()), 'channels': config.semantic_channels}
    if stereo != DEFAULT_STEREO:
        sizes['stereo'] = asdict(stereo)
    if semantics is not None:
        sizes['semantics'] = [str(semantics.root.resolve()), semantics.meaning]
    return f'{config.name}-{_digest(json.dumps(sizes, sort_keys=True), 8)}'


def store_frame(frame: FrameRef, arrays: Arrays, fingerprint: str) -> None:
    """Write the arrays of a frame, packed, with the fingerprint of what they were made of."""
    write_arrays(frame.cached, arrays, comment=fingerprint)


def stored_fingerprint(path: Path) -> str | None:
    """Return the fingerprint of prepared arrays; None where there are none that can be read."""
    try:
        return read_comment(path)
    except DataFileError:
        return None


def load_frame(frame: FrameRef) -> Arrays:
    """Read the prepared arrays of a frame; raise DataFileError where there are none."""
    return frame.load()


def _folder_key(root: Path) -> str:
    """Name a data set, so that sets with sequences of the same name do not share files."""
    return f'{root.resolve().name}-{_digest(str(root.resolve()), 8)}'


def _digest(text: str, length: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:length]
