"""The folders of KITTI odometry and SemanticKITTI: the one description that all readers share.

SS/calib.txt  SS/times.txt  SS/image_2                        always
SS/image_3  SS/velodyne  SS/labels  SS/poses.txt  SS/voxels   where the data has them
SS/depth_2  SS/masks_2                                        generated scenes
SS/depth_stereo                                               where a stereo network has been

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
MAX_NAMED = 3
"""Frames that a message names before it counts the rest."""


class FrameKey(NamedTuple):
    """Name of a frame within a data set."""

    sequence: str
    frame_id: str

    def __str__(self) -> str:
        """Return e.g. `08/000005`."""
        return f'{self.sequence}/{self.frame_id}'


@dataclass(frozen=True)
class Part:
    """One file per frame: SS/<folder>/FFFFFF<one of suffixes>, and where it is to be had.

    Suffixes are in lower case; a file may have any. Where a frame has several files, that of the
    first suffix counts.
    """

    folder: str
    suffixes: tuple[str, ...]
    archive: str

    def files(self, sequence: Path) -> dict[str, Path]:
        """Return the files that there are by frame id, in order."""
        found = [
            path
            for path in (sequence / self.folder).glob('*')
            if path.suffix.lower() in self.suffixes and path.stem.isdigit()
        ]
        best_last = sorted(found, key=lambda path: -self.suffixes.index(path.suffix.lower()))
        return dict(sorted({path.stem: path for path in best_last}.items()))

    def file(self, sequence: Path, frame_id: str) -> Path:
        """Return the file of a frame, whether it is there or not."""
        candidates = [
            sequence / self.folder / f'{frame_id}{suffix}'
            for lower in self.suffixes
            for suffix in (lower, lower.upper())
        ]
        return next((path for path in candidates if path.is_file()), candidates[0])

    def missing(self, sequence: Path, frame_ids: Iterable[str]) -> list[str]:
        """Return those of the frames that have no file."""
        there = self.files(sequence)
        return [frame_id for frame_id in frame_ids if frame_id not in there]


_PICTURES = ('.png', '.jpg', '.jpeg')
_COLOUR = 'data_odometry_color.zip of the KITTI odometry benchmark'
_SCANS = 'data_odometry_velodyne.zip of the KITTI odometry benchmark'
_LABELS = 'data_odometry_labels.zip of semantic-kitti.org'
_VOXELS = 'data_odometry_voxels.zip of semantic-kitti.org'
_GENERATED = '"cigocc synthesize" writes it, no download has it'
IMAGES = Part('image_2', _PICTURES, _COLOUR)
RIGHT_IMAGES = Part('image_3', _PICTURES, _COLOUR)
SCANS = Part('velodyne', ('.bin',), _SCANS)
POINT_LABELS = Part('labels', ('.label',), _LABELS)
VOXEL_LABELS = Part('voxels', ('.label',), _VOXELS)
VOXEL_INVALID = Part('voxels', ('.invalid',), _VOXELS)
VOXEL_OCCLUDED = Part('voxels', ('.occluded',), _VOXELS)
VOXEL_SCANS = Part('voxels', ('.bin',), _VOXELS)
DEPTH_IMAGES = Part('depth_2', ('.png',), _GENERATED)
CLASS_IMAGES = Part('masks_2', ('.png',), _GENERATED)
STEREO_DEPTH = Part('depth_stereo', ('.png', '.npy'), 'a stereo network writes it')
CALIB, TIMES, POSES = 'calib.txt', 'times.txt', 'poses.txt'
TEXT_ARCHIVES = {
    CALIB: 'data_odometry_calib.zip of the KITTI odometry benchmark',
    TIMES: 'data_odometry_calib.zip of the KITTI odometry benchmark',
    POSES: _LABELS,
}


def sequence_folders(root: Path, holding: str = CALIB) -> list[Path]:
    """List the sequences below a root that hold a file or folder, in order.

    `root` is the folder above `sequences`, `sequences` itself, or one sequence.
    """
    if (root / holding).exists():
        return [root]
    parent = root / 'sequences' if (root / 'sequences').is_dir() else root
    return sorted(path.parent for path in parent.glob(f'*/{holding}'))


def sequence_folder(root: Path, name: str) -> Path:
    """Return the folder of a sequence, whether it is there or not; `root` as above."""
    if not (root / 'sequences').is_dir():
        if root.name == name:
            return root
        if (root / name).is_dir():
            return root / name
    return root / 'sequences' / name


def find_sequences(root: str | Path) -> list[Path]:
    """List the sequence folders of a data set; raise DataFileError where there are none.

    `root` is the folder above `sequences`, `sequences` itself, or one sequence.
    """
    root = Path(root)
    found = sequence_folders(root)
    if not found:
        raise DataFileError(
            f'no sequences under {root}: expected {root}/sequences/00/{CALIB} and image_2/ '
            f'beside it (KITTI odometry layout), found {_instead(root)}'
        )
    return found


def _instead(root: Path) -> str:
    """Say what is there in place of sequences, and what to do."""
    if not root.is_dir():
        return 'no such folder; "cigocc synthesize" writes one'
    deeper = sorted(path.parent for path in root.glob('*/sequences') if path.is_dir())
    if deeper:
        return f'{deeper[0]}/sequences: give {deeper[0]}'
    pictures = sorted(path.parent for path in root.glob('sequences/*/image_2'))
    pictures += sorted(path.parent for path in root.glob('*/image_2'))
    if pictures:
        return f'{pictures[0]}/image_2 without {CALIB}: unpack {TEXT_ARCHIVES[CALIB]}'
    names = sorted(entry.name for entry in root.iterdir())
    listed = ', '.join(names[:8]) + (', ...' if len(names) > 8 else '')
    return f'{listed or "an empty folder"}; "cigocc synthesize" writes a data set'


def labelled_frames(sequences: Iterable[str], every: int = VOXELS_EVERY) -> tuple[FrameKey, ...]:
    """Return the frames of labelled sequences that have official volumes; ConfigError.

    With `every` 1 those that have a labelled scan: all of them.
    """
    keys: list[FrameKey] = []
    for name in sequences:
        if name not in NUM_SCANS:
            raise ConfigError(f'no volumes are published for sequence {name!r}, only 00 to 10')
        keys += [FrameKey(name, f'{i:06d}') for i in range(0, NUM_SCANS[name], every)]
    return tuple(keys)


def frames_to_predict(root: Path, sequences: Iterable[str]) -> tuple[FrameKey, ...]:
    """Return the frames that a submission must hold: those with voxels/FFFFFF.bin.

    Raises DataFileError for a sequence without such files.
    """
    keys: list[FrameKey] = []
    for name in sequences:
        found = VOXEL_SCANS.files(sequence_folder(root, name))
        if not found:
            raise DataFileError(
                f'{sequence_folder(root, name) / VOXEL_SCANS.folder}: expected 000000.bin, '
                '000005.bin, ..., which say what is to be predicted, found none: unpack '
                f'{VOXEL_SCANS.archive} into {root}'
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
        problems += [text for part in parts if (text := lacking(folder, ids, part))]
        if IMAGES in parts:
            problems += _missing_texts(folder)
    if problems:
        listed = '\n  '.join(problems)
        raise DataFileError(
            f'{root}: the download is incomplete\n  {listed}\n'
            f'unpack the archives named into {root}, over each other'
        )


def lacking(sequence: Path, frame_ids: list[str], part: Part) -> str | None:
    """Say which files of a part are missing and where to get them; None where none is."""
    missing = part.missing(sequence, frame_ids)
    if not missing:
        return None
    names = ', '.join(missing[:MAX_NAMED]) + (', ...' if len(missing) > MAX_NAMED else '')
    return (
        f'{sequence}/{part.folder}/*{part.suffixes[0]}: {len(missing)} of {len(frame_ids)} '
        f'missing ({names}): {part.archive}'
    )


def _missing_texts(folder: Path) -> list[str]:
    return [
        f'{folder}/{name}: missing: {TEXT_ARCHIVES[name]}'
        for name in (CALIB, TIMES)
        if not (folder / name).is_file()
    ]
