"""SemanticKITTI's scene-completion benchmark: the official splits and what they need on disk.

Archives are unpacked over each other, so that a sequence is one folder, ROOT/sequences/SS.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cigocc_ros.core.errors import ConfigError, DataFileError

SPLITS: dict[str, tuple[str, ...]] = {
    'train': ('00', '01', '02', '03', '04', '05', '06', '07', '09', '10'),
    'val': ('08',),
    'test': tuple(f'{number:02d}' for number in range(11, 22)),
}
VOXELS_EVERY = 5
"""Volumes belong to the scans 000000, 000005, ..."""
NUM_SCANS = {
    '00': 4541,
    '01': 1101,
    '02': 4661,
    '03': 801,
    '04': 271,
    '05': 2761,
    '06': 1101,
    '07': 1101,
    '08': 4071,
    '09': 1591,
    '10': 1201,
}
"""Scans of the labelled sequences. The test server's list is that of the test set's .bin files."""


class FrameKey(NamedTuple):
    """Name of a frame within a data set."""

    sequence: str
    frame_id: str

    def __str__(self) -> str:
        """Return e.g. `08/000005`."""
        return f'{self.sequence}/{self.frame_id}'


@dataclass(frozen=True)
class Part:
    """One file per frame: SS/<folder>/FFFFFF<one of suffixes>, and where it is to be had."""

    folder: str
    suffixes: tuple[str, ...]
    archive: str

    def file(self, sequence: Path, frame_id: str) -> Path:
        """Return the file of a frame, whether it is there or not."""
        candidates = [sequence / self.folder / f'{frame_id}{suffix}' for suffix in self.suffixes]
        return next((path for path in candidates if path.is_file()), candidates[0])


_COLOUR = 'data_odometry_color.zip of the KITTI odometry benchmark'
_VOXELS = 'data_odometry_voxels.zip of semantic-kitti.org'
IMAGES = Part('image_2', ('.png', '.jpg'), _COLOUR)
RIGHT_IMAGES = Part('image_3', ('.png', '.jpg'), _COLOUR)
VOXEL_LABELS = Part('voxels', ('.label',), _VOXELS)
VOXEL_INVALID = Part('voxels', ('.invalid',), _VOXELS)
VOXEL_SCANS = Part('voxels', ('.bin',), _VOXELS)


def sequence_folder(root: Path, name: str) -> Path:
    """Return the folder of a sequence, whether it is there or not.

    `root` is the folder above `sequences`, `sequences` itself, or the sequence.
    """
    if not (root / 'sequences').is_dir():
        if root.name == name:
            return root
        if (root / name).is_dir():
            return root / name
    return root / 'sequences' / name


def labelled_frames(sequences: Iterable[str]) -> tuple[FrameKey, ...]:
    """Return the frames of labelled sequences that have official volumes; ConfigError."""
    keys: list[FrameKey] = []
    for name in sequences:
        if name not in NUM_SCANS:
            raise ConfigError(f'no volumes are published for sequence {name!r}, only 00 to 10')
        keys += [FrameKey(name, f'{i:06d}') for i in range(0, NUM_SCANS[name], VOXELS_EVERY)]
    return tuple(keys)


def frames_to_predict(root: Path, sequences: Iterable[str]) -> tuple[FrameKey, ...]:
    """Return the frames that a submission must hold: those with voxels/FFFFFF.bin.

    Raises DataFileError for a sequence without such files.
    """
    keys: list[FrameKey] = []
    for name in sequences:
        folder = sequence_folder(root, name) / VOXEL_SCANS.folder
        found = sorted(path.stem for path in folder.glob('*.bin') if path.stem.isdigit())
        if not found:
            raise DataFileError(
                f'{folder}: expected 000000.bin, 000005.bin, ..., which say what is to be '
                f'predicted, found none: unpack {VOXEL_SCANS.archive} into {root}'
            )
        keys += [FrameKey(name, frame_id) for frame_id in found]
    return tuple(keys)


def require_files(root: Path, frames: Iterable[FrameKey], parts: Iterable[Part]) -> None:
    """Raise DataFileError saying for each sequence and part what is missing and where to get it.

    A frame's sequence must have its calib.txt and times.txt too where `parts` has images.
    """
    frames, parts = list(frames), list(parts)
    problems: list[str] = []
    for name in sorted({key.sequence for key in frames}):
        folder = sequence_folder(root, name)
        ids = [key.frame_id for key in frames if key.sequence == name]
        problems += [text for part in parts if (text := _missing(folder, ids, part))]
        if IMAGES in parts:
            problems += _missing_texts(folder)
    if problems:
        listed = '\n  '.join(problems)
        raise DataFileError(
            f'{root}: the download is incomplete\n  {listed}\n'
            f'unpack the archives named into {root}, over each other'
        )


def _missing(folder: Path, ids: list[str], part: Part) -> str | None:
    missing = [frame_id for frame_id in ids if not part.file(folder, frame_id).is_file()]
    if not missing:
        return None
    return (
        f'{folder}/{part.folder}/*{part.suffixes[0]}: {len(missing)} of {len(ids)} missing, '
        f'the first is {missing[0]}: {part.archive}'
    )


def _missing_texts(folder: Path) -> list[str]:
    archive = 'data_odometry_calib.zip of the KITTI odometry benchmark'
    names = ('calib.txt', 'times.txt')
    return [
        f'{folder}/{name}: missing: {archive}' for name in names if not (folder / name).is_file()
    ]
