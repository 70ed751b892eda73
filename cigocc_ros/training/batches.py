"""Which draws of the stream each process takes, so that together they see what one would."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lightning_fabric import Fabric
from torch.utils.data import DataLoader, Sampler

from cigocc_ros.core.errors import ConfigError
from cigocc_ros.training.config import TrainConfig
from cigocc_ros.training.resident import ResidentFrames, resident_batches
from cigocc_ros.training.scene_dataset import Batch, TrainingStream, collate
from cigocc_ros.training.stopping import ignore_interrupts


@dataclass(frozen=True)
class BatchSplit:
    """How the samples of an optimiser step are divided."""

    batch_size: int
    """Samples of a step over all processes."""
    num_processes: int
    micro_batch_size: int
    """Samples of a forward pass."""

    @property
    def micro_batches(self) -> int:
        """Forward passes of each process per step."""
        return self.batch_size // (self.num_processes * self.micro_batch_size)

    def draws(self, rank: int, first_draw: int) -> Iterator[list[int]]:
        """Yield the draws of each forward pass of process `rank`, step after step, for ever.

        The passes of a step take turns among the processes: N processes with k passes each run the
        very micro-batches of one process with N k passes.
        """
        size = self.micro_batch_size
        for step_start in itertools.count(first_draw, self.batch_size):
            for turn in range(self.micro_batches):
                start = step_start + (turn * self.num_processes + rank) * size
                yield list(range(start, start + size))


def split_batch(config: TrainConfig, num_processes: int) -> BatchSplit:
    """Return the split that `config` asks for; raise ConfigError where it does not come out even.

    Every forward pass has the same size, so that the mean of their losses is that of the step.
    """
    micro = config.micro_batch_size or max(1, config.batch_size // num_processes)
    if config.batch_size % (num_processes * micro):
        raise ConfigError(
            f'batch_size {config.batch_size} must be a multiple of {num_processes} processes '
            f'times micro_batch_size {micro}'
        )
    return BatchSplit(config.batch_size, num_processes, micro)


class _RankDraws(Sampler[list[int]]):
    def __init__(self, split: BatchSplit, rank: int, first_draw: int) -> None:
        self.split, self.rank, self.first_draw = split, rank, first_draw

    def __iter__(self) -> Iterator[list[int]]:
        return self.split.draws(self.rank, self.first_draw)


def training_batches(
    stream: TrainingStream,
    config: TrainConfig,
    fabric: Fabric,
    first_draw: int,
    resident: ResidentFrames | None = None,
) -> Iterator[Batch]:
    """Yield this process's batches on its device, from draw `first_draw` of the stream on.

    They are made there of `resident` frames, else brought by a loader.
    """
    split = split_batch(config, fabric.world_size)
    if resident is not None:
        draws = split.draws(fabric.global_rank, first_draw)
        yield from resident_batches(stream, resident, draws)
        return
    # a loader is typed by what its dataset gives; this one gives what `collate` makes of it
    loader: DataLoader[Any] = DataLoader(
        stream,
        batch_sampler=_RankDraws(split, fabric.global_rank, first_draw),
        num_workers=config.num_workers,
        # fresh processes: a fork of one whose threads have run can hang
        multiprocessing_context='spawn' if config.num_workers else None,
        worker_init_fn=ignore_interrupts,
        pin_memory=fabric.device.type == 'cuda',
        collate_fn=collate,
    )
    batches: Any = fabric.setup_dataloaders(loader, use_distributed_sampler=False)
    yield from batches
