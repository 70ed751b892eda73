"""Shards that come while a run trains: taken at the next epoch, counted exactly over a resume."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cigocc_ros.core.errors import DataFileError
from cigocc_ros.training.cache import FrameRef
from cigocc_ros.training.mixture import Era, Mixture
from cigocc_ros.training.shards import SUFFIX, PackedFrame, Shard, check_sizes, frames_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SetShards:
    """What a set of frames was drawn from so far, for the state of a run."""

    files: tuple[str, ...] = ()
    """Its shards in the order in which they came, `ShardWatch.name` each."""
    eras: tuple[tuple[int, int], ...] = ()
    """See mixture.Era."""


@dataclass
class ShardWatch:
    """Folders of shards, each of which belongs to a set of a mixture."""

    folders: Sequence[tuple[int, Path]]
    """Index of the set, folder."""
    prepared_for: str
    """`cache_key` of the network: other shards are left alone."""
    _left: dict[Path, tuple[int, int]] = field(default_factory=dict)
    """Size and time of change of each file that could not be taken."""

    def name(self, shard: Path) -> str:
        """Return a name of a shard that stays when the folders are elsewhere."""
        numbers = [str(i) for i, (_, folder) in enumerate(self.folders) if folder == shard.parent]
        return f'{"".join(numbers[:1])}/{shard.name}'

    def start(self, mixture: Mixture, state: Sequence[SetShards], draw: int) -> Mixture:
        """Return the mixture of a run that begins, or that goes on at `draw` with its `state`.

        Shards that are new to the state join as if they had just come. Raises DataFileError for
        one that the run was drawing from and that is gone.
        """
        sets = []
        late: list[tuple[int, list[FrameRef]]] = []
        for index, one in enumerate(mixture.sets):
            by_file = self._by_file(one.frames)
            own = [frame for frame in one.frames if not isinstance(frame, PackedFrame)]
            known = state[index] if index < len(state) else SetShards(tuple(by_file))
            gone = sorted(set(known.files) - set(by_file))
            if gone:
                raise DataFileError(
                    f'the run was drawing from the shard {gone[0]} of its --data, which is gone: '
                    'put it back, or start anew with --init'
                )
            frames = [*own, *(frame for file in known.files for frame in by_file[file])]
            new = [frame for file in by_file if file not in known.files for frame in by_file[file]]
            eras = tuple(Era(*era) for era in known.eras)
            sets.append(replace(one, frames=tuple(frames), eras=eras))
            late += [(index, new)] if new else []
        started = Mixture(tuple(sets), mixture.seed)
        for index, frames in late:
            started = started.grown(index, frames, draw)
        return started

    def state(self, mixture: Mixture) -> tuple[SetShards, ...]:
        """Return what `start` needs to go on with a mixture."""
        return tuple(
            SetShards(
                tuple(self._by_file(one.frames)), tuple((era.begin, era.size) for era in one.eras)
            )
            for one in mixture.sets
        )

    def new(self, mixture: Mixture) -> list[tuple[int, Path]]:
        """Return the shards that came, each with its set; those that are no shards yet are not."""
        known = {frame.shard for frame in mixture.frames if isinstance(frame, PackedFrame)}
        return [
            (index, path)
            for index, folder in self.folders
            for path in sorted(folder.glob(f'*{SUFFIX}'))
            if path not in known and self._can_be_read(path)
        ]

    def grown(self, mixture: Mixture, shards: Sequence[tuple[int, Path]], draw: int) -> Mixture:
        """Return the mixture with the frames of shards, which no draw before `draw` shows."""
        for index, path in shards:
            mixture = mixture.grown(index, frames_of(Shard(path)), draw)
        return mixture

    def leave(self, path: Path, error: Exception) -> None:
        """Leave a shard alone until it changes, and say why, once."""
        if path not in self._left:
            logger.warning('a new shard is left alone until it changes: %s', error)
        self._left[path] = _state_of(path)

    def _can_be_read(self, path: Path) -> bool:
        """Say whether a shard is whole and fits; a copy under way is not."""
        if self._left.get(path) == _state_of(path):
            return False
        try:
            check_sizes(Shard(path), self.prepared_for)
        except DataFileError as error:
            self.leave(path, error)
            return False
        return True

    def _by_file(self, frames: Sequence[FrameRef]) -> dict[str, list[FrameRef]]:
        """Return the frames of each shard, in their order."""
        by_file: dict[str, list[FrameRef]] = {}
        for frame in frames:
            if isinstance(frame, PackedFrame):
                by_file.setdefault(self.name(frame.shard), []).append(frame)
        return by_file


def _state_of(path: Path) -> tuple[int, int]:
    """Return size and time of change, (-1, -1) of what is gone."""
    try:
        status = path.stat()
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns
