"""What a collector wrote, read back; needs no ROS, so that reports can be made anywhere."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.arrays import read_arrays
from cigocc_ros.core.errors import DataFileError, FrameError
from cigocc_ros.core.frames import Occupancy
from cigocc_ros.core.grid import VoxelGrid
from cigocc_ros.core.labels import NUM_CLASSES
from cigocc_ros.core.point_records import CLASS_CONFIDENCE
from cigocc_ros.core.text import excerpt

EVENTS_FILE = 'events.jsonl'
OCCUPANCY_FIELDS = ('x', 'y', 'z', 'label', 'probability')


@dataclass(frozen=True)
class CollectedCloud:
    """One message of ~/occupancy. latency_ms: from the image's arrival to the cloud's."""

    stamp_ns: int
    frame_id: str
    class_counts: tuple[int, ...]
    latency_ms: float | None
    file: Path | None


@dataclass
class Collected:
    """Everything that came so far; `diagnostics` is the newest report of the node."""

    clouds: list[CollectedCloud] = field(default_factory=list)
    marker_cubes: list[int] = field(default_factory=list)
    processing_time_ms: list[float] = field(default_factory=list)
    diagnostics: dict[str, str] = field(default_factory=dict)
    diagnostics_message: str = ''
    class_info: dict[str, Any] | None = None

    @property
    def grid(self) -> VoxelGrid | None:
        """The grid that the node announced; None before it did."""
        return None if self.class_info is None else VoxelGrid.from_dict(self.class_info['grid'])


def read_collected(folder: Path) -> Collected:
    """Return what is in the folder now; an unfinished last line is left for the next time."""
    collected = Collected()
    path = folder / EVENTS_FILE
    text = path.read_text(encoding='utf-8') if path.is_file() else ''
    for line in text[: text.rfind('\n') + 1].splitlines():
        _add(collected, json.loads(line), folder)
    return collected


@dataclass(frozen=True)
class StoredCloud:
    """The points of a stored cloud and, where they came, its image (H, W, 3) and ground truth."""

    points: NDArray[Any]
    image: NDArray[np.uint8] | None
    truth_points: NDArray[Any] | None


def load_cloud(path: Path) -> StoredCloud:
    """Read a file that `CollectedCloud.file` names."""
    arrays = read_arrays(path)
    if 'points' not in arrays:
        raise DataFileError(f'{path}: expected an array points, found {excerpt(list(arrays))}')
    return StoredCloud(arrays['points'], arrays.get('image'), arrays.get('truth_points'))


def occupancy_from_points(
    points: NDArray[Any], grid: VoxelGrid, stamp_ns: int, frame_id: str
) -> Occupancy:
    """Put points with the fields of ~/occupancy into the grid that ~/class_info states.

    Raises FrameError where a field is missing or a point does not lie in the grid.
    """
    missing = [name for name in OCCUPANCY_FIELDS if name not in (points.dtype.names or ())]
    if missing:
        raise FrameError(f'the cloud lacks the fields {missing}, it has {points.dtype.names}')
    index, inside = grid.index_of(np.stack([points[name] for name in 'xyz'], axis=-1))
    if not inside.all():
        raise FrameError(f'{int((~inside).sum())} of {len(points)} points lie outside the grid')
    if not (points['label'] < NUM_CLASSES).all():
        raise FrameError(f'expected labels below {NUM_CLASSES}, found others')
    labels = np.zeros(grid.shape, np.uint8)
    labels[tuple(index.T)] = points['label']
    probability = _steps(points['probability'], index, grid)
    sure = None
    if CLASS_CONFIDENCE in (points.dtype.names or ()):
        sure = _steps(points[CLASS_CONFIDENCE], index, grid)
    return Occupancy(labels, probability, grid, stamp_ns, frame_id, sure)


def _steps(
    probability: NDArray[np.float32], index: NDArray[np.int64], grid: VoxelGrid
) -> NDArray[np.uint8]:
    """Return probabilities (N,) of voxels (N, 3) on the grid, in 1/255; raise FrameError."""
    if not ((probability >= 0).all() and (probability <= 1).all()):
        raise FrameError('expected probabilities of 0 to 1, found others')
    steps = np.zeros(grid.shape, np.uint8)
    steps[tuple(index.T)] = np.rint(probability * 255)
    return steps


def _add(collected: Collected, event: dict[str, Any], folder: Path) -> None:
    kind = event.pop('kind')
    if kind == 'occupancy':
        file = folder / event['file'] if event['file'] else None
        counts = tuple(event['class_counts'])
        cloud = CollectedCloud(**{**event, 'class_counts': counts, 'file': file})
        collected.clouds.append(cloud)
    elif kind == 'markers':
        collected.marker_cubes.append(sum(event['cubes'].values()))
    elif kind == 'class_info':
        collected.class_info = event['content']
    elif kind == 'diagnostics' and event['name'].endswith('occupancy'):
        collected.diagnostics = event['values']
        collected.diagnostics_message = event['message']
    elif kind == 'processing_time_ms':
        collected.processing_time_ms.append(event['value'])
