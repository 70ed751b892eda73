"""Write a KITTI sequence as a ROS 2 bag, without a ROS installation."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import StoragePlugin, Writer

from cigocc_ros.core.errors import ConfigError, DataFileError
from cigocc_ros.data.bag_messages import BagMessages
from cigocc_ros.data.kitti_layout import DEPTH_IMAGES, RIGHT_IMAGES, SCANS, VOXEL_LABELS, lacking
from cigocc_ros.data.kitti_sequence import KittiSequence
from cigocc_ros.data.recording import RIGHT_TOPICS, TOPICS, Item, Kind, Recording, Topic
from cigocc_ros.data.rig import rig_of_sequence

Storage = Literal['mcap', 'sqlite3']
STORAGES: tuple[Storage, ...] = ('mcap', 'sqlite3')
BAG_VERSION: Literal[8] = 8
"""Metadata that rosbag2 reads from Humble on; 9 is for Jazzy and later."""
TF_TOPIC = '/tf_static'
FOREVER = QosTime(9223372036, 854775807)
Track = Callable[[Sequence[str]], Iterable[str]]


def _qos(depth: int, durability: QosDurability) -> Qos:
    """Return a reliable profile; images of a megabyte do not survive best effort."""
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=depth,
        reliability=QosReliability.RELIABLE,
        durability=durability,
        deadline=FOREVER,
        lifespan=FOREVER,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=FOREVER,
        avoid_ros_namespace_conventions=False,
    )


STREAM = _qos(10, QosDurability.VOLATILE)
LATCHED = _qos(1, QosDurability.TRANSIENT_LOCAL)


@dataclass(frozen=True)
class BagContent:
    """What goes into a bag besides left image, its CameraInfo and /tf_static.

    compressed: JPEG instead of raw images. ground_truth_frame: frame_id of the ground truth, empty
    is that of the lidar. semantic_prior: folder of label images. start, end: index of the first
    frame and after the last one; None is the end.
    """

    right: bool = False
    depth: bool = False
    lidar: bool = False
    ground_truth: bool = False
    compressed: bool = False
    ground_truth_frame: str = ''
    semantic_prior: Path | None = None
    start: int = 0
    end: int | None = None

    def __post_init__(self) -> None:
        """Raise ConfigError for a frame of what is not asked for."""
        if self.ground_truth_frame and not self.ground_truth:
            raise ConfigError(
                f'ground_truth_frame {self.ground_truth_frame!r} is given, but no ground truth is '
                'asked for: add --ground-truth'
            )

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics that are asked for, by the names of the player."""
        asked = {
            'camera_info': True,
            'image': True,
            **dict.fromkeys(RIGHT_TOPICS, self.right),
            'depth': self.depth,
            'semantic_prior': self.semantic_prior is not None,
            'velodyne': self.lidar,
            'ground_truth': self.ground_truth,
        }
        return tuple(topic for topic, wanted in asked.items() if wanted)


def write_bag(
    sequence: KittiSequence,
    out: str | Path,
    storage: Storage = 'mcap',
    content: BagContent | None = None,
    track: Track = iter,
) -> dict[str, int]:
    """Write a bag folder `out` and return the number of messages by topic.

    `track` wraps the frame ids in a progress bar. Raises DataFileError where `out` exists or the
    sequence lacks what is asked for; nothing is left behind then.
    """
    out = Path(out)
    content = content or BagContent()
    frames = frames_between(sequence, content)
    _check_content(sequence, frames, content)
    if out.exists():
        raise DataFileError(f'{out} exists: remove it, or give --out another name')
    if storage not in STORAGES:
        raise ConfigError(f'storage must be one of {", ".join(STORAGES)}, found {storage!r}')
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=out.parent, prefix=f'.{out.name}.'))
    try:
        plugin = StoragePlugin[storage.upper()]
        with Writer(partial / out.name, version=BAG_VERSION, storage_plugin=plugin) as writer:
            bag = _Bag(writer, sequence, content)
            bag.write_static(frames[0])
            for frame_id in track(frames):
                bag.write_frame(frame_id)
        (partial / out.name).rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return bag.counts


def frames_between(sequence: KittiSequence, content: BagContent) -> tuple[str, ...]:
    """Return the ids of the frames from start to end; raise ConfigError where there are none."""
    frames = sequence.frame_ids[content.start : content.end] if content.start >= 0 else ()
    if not frames:
        raise ConfigError(
            f'start {content.start} and end {content.end} select no frame of {sequence.path}, '
            f'which has {len(sequence)}'
        )
    return frames


def _check_content(sequence: KittiSequence, frames: Sequence[str], content: BagContent) -> None:
    """Raise DataFileError where the sequence lacks something that was asked for.

    A right image belongs to every left one; of the other parts one frame suffices.
    """
    problems: list[str] = []
    if content.right:
        problems.append(lacking(sequence.path, list(frames), RIGHT_IMAGES) or '')
    asked = (
        (content.depth, DEPTH_IMAGES),
        (content.lidar, SCANS),
        (content.ground_truth, VOXEL_LABELS),
    )
    for wanted, part in asked:
        if wanted and len(part.missing(sequence.path, frames)) == len(frames):
            problems.append(lacking(sequence.path, list(frames), part) or '')
    listed = '\n  '.join(filter(None, problems))
    if listed:
        raise DataFileError(f'{sequence.path}: what was asked for is not there\n  {listed}')


class _Bag:
    """The topics of an open bag and how to fill them."""

    def __init__(self, writer: Writer, sequence: KittiSequence, content: BagContent) -> None:
        self._writer = writer
        self._content = content
        self._messages = messages = BagMessages()
        self._makers: dict[Kind, Callable[[Any, int, str], Any]] = {
            'image': messages.image,
            'camera_info': messages.camera_info,
            'depth': messages.depth,
            'labels': messages.labels,
            'cloud': messages.cloud,
        }
        self._connections: dict[str, Any] = {}
        rig = rig_of_sequence(sequence)
        self._recording = Recording(
            sequence,
            rig if content.right else rig.without_right(),
            ground_truth_frame=content.ground_truth_frame,
            label_root=content.semantic_prior,
        )
        self.counts: dict[str, int] = {}

    def write_static(self, first_frame: str) -> None:
        """Write /tf_static, latched, at the time of the first frame."""
        stamp_ns = self._recording.stamp_ns(first_frame)
        poses = self._messages.tf(self._recording.rig.static_poses(), stamp_ns)
        self._write(TF_TOPIC, poses, stamp_ns, LATCHED)

    def write_frame(self, frame_id: str) -> None:
        """Write everything that was asked for and that the frame has."""
        stamp_ns = self._recording.stamp_ns(frame_id)
        for topic in self._content.topics:
            item = self._recording.item(topic, frame_id)
            if item is not None:
                self._write_item(TOPICS[topic], item, stamp_ns)

    def _write_item(self, topic: Topic, item: Item, stamp_ns: int) -> None:
        compressed = topic.kind == 'image' and self._content.compressed
        make = self._messages.compressed_image if compressed else self._makers[topic.kind]
        name = f'{topic.in_bags}/compressed' if compressed else topic.in_bags
        self._write(name, make(item.content, stamp_ns, item.frame_id), stamp_ns)

    def _write(self, topic: str, message: Any, stamp_ns: int, qos: Qos = STREAM) -> None:
        typestore = self._messages.typestore
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(
                topic, message.__msgtype__, typestore=typestore, offered_qos_profiles=(qos,)
            )
        content = typestore.serialize_cdr(message, message.__msgtype__)
        self._writer.write(self._connections[topic], stamp_ns, content)
        self.counts[topic] = self.counts.get(topic, 0) + 1
