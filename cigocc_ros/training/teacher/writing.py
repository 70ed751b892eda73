"""Let a teacher look at all frames of a data set, once each, shared among processes."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cigocc_ros.core.errors import CigoccError, ConfigError, DataFileError
from cigocc_ros.data.kitti_layout import VOXELS_EVERY, find_sequences
from cigocc_ros.data.kitti_sequence import LEFT_ONLY, KittiSequence, Side
from cigocc_ros.training.teacher.files import read_info, write_output
from cigocc_ros.training.teacher.folder import claim_folder, frame_file
from cigocc_ros.training.teacher.output import Teacher


@dataclass(frozen=True)
class Shard:
    """Which of several processes this is."""

    rank: int = 0
    world_size: int = 1

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Shard:
        """Read RANK and WORLD_SIZE of the launcher, one process without; raise ConfigError."""
        texts = [environment.get(name) for name in ('RANK', 'WORLD_SIZE')]
        if texts == [None, None]:
            return cls()
        try:
            rank, world_size = (int(str(text)) for text in texts)
        except ValueError:
            rank, world_size = -1, 0
        if not 0 <= rank < world_size:
            raise ConfigError(
                'expected the environment variables 0 <= RANK < WORLD_SIZE, or neither, found '
                f'RANK={texts[0]} and WORLD_SIZE={texts[1]}'
            )
        return cls(rank, world_size)


@dataclass(frozen=True)
class Job:
    """One image to look at."""

    sequence: KittiSequence
    frame_id: str
    side: Side = 'left'

    @property
    def name(self) -> str:
        """The frame as messages name it."""
        return f'{self.sequence.name}/{self.frame_id}' + (' right' if self.side == 'right' else '')

    def file(self, folder: Path) -> Path:
        """Where the answer goes."""
        return frame_file(folder, self.sequence.name, self.frame_id, self.side)


@dataclass(frozen=True)
class Outcome:
    """What became of a frame: written, or why not."""

    job: Job
    error: str | None = None


def find_jobs(
    root: Path,
    every: int = VOXELS_EVERY,
    sides: Collection[Side] = LEFT_ONLY,
    all_frames: bool = False,
) -> list[Job]:
    """List the frames that training may ask for: those with voxel labels, else every n-th one.

    `all_frames` are what the stage `eyes` may ask for. Sequences without right images have no
    right jobs.
    """
    if every < 1:
        raise ConfigError(f'expected to look at every 1st frame or fewer, found every={every}')
    jobs: list[Job] = []
    for path in find_sequences(root):
        sequence = KittiSequence(path)
        ids = sequence.voxel_ids or tuple(i for i in sequence.frame_ids if int(i) % every == 0)
        ids = sequence.frame_ids if all_frames else ids
        taken = [side for side in sides if side == 'left' or sequence.has_right]
        jobs.extend(Job(sequence, frame_id, side) for frame_id in ids for side in taken)
    return jobs


def open_jobs(jobs: Sequence[Job], teacher: Teacher, folder: Path, shard: Shard) -> list[Job]:
    """Return the jobs of this shard that have no valid file of this teacher yet.

    Jobs are dealt out before looking which are done, so that shards never share one. Raises
    DataFileError where the folder is of another teacher.
    """
    claim_folder(folder, teacher.info)
    mine = jobs[shard.rank :: shard.world_size]
    return [job for job in mine if not _is_done(job, teacher, folder)]


def look_at(jobs: Sequence[Job], teacher: Teacher, folder: Path) -> Iterator[Outcome]:
    """Write the file of each job; a frame that cannot be used is an outcome with its error."""
    for job in jobs:
        try:
            output = teacher.look(job.sequence, job.frame_id, job.side)
            write_output(job.file(folder), output, teacher.info)
        except CigoccError as error:
            yield Outcome(job, str(error))
        else:
            yield Outcome(job)


def _is_done(job: Job, teacher: Teacher, folder: Path) -> bool:
    try:
        return read_info(job.file(folder)) == teacher.info
    except DataFileError:
        return False
