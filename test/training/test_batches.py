"""Processes and passes divide the draws of a step; together they see what one would."""

from __future__ import annotations

import itertools

import pytest

from cigocc_ros.core.errors import ConfigError
from cigocc_ros.training.batches import BatchSplit, split_batch
from cigocc_ros.training.config import TrainConfig


def config(batch_size: int, micro: int | None) -> TrainConfig:
    return TrainConfig(steps=1, learning_rate=0.1, batch_size=batch_size, micro_batch_size=micro)


def first_passes(split: BatchSplit, count: int, first_draw: int = 0) -> list[list[list[int]]]:
    ranks = range(split.num_processes)
    return [list(itertools.islice(split.draws(rank, first_draw), count)) for rank in ranks]


@pytest.mark.parametrize('processes', [1, 2, 4])
def test_processes_take_turns_at_the_micro_batches_of_one(processes: int) -> None:
    split = split_batch(config(8, 2), processes)
    by_rank = first_passes(split, 3 * split.micro_batches, first_draw=16)
    in_turn = [draws for turn in zip(*by_rank, strict=True) for draws in turn]
    assert in_turn == [[16 + 2 * i, 17 + 2 * i] for i in range(12)]


def test_without_a_size_each_process_makes_one_pass() -> None:
    assert split_batch(config(6, None), 1) == BatchSplit(6, 1, 6)
    split = split_batch(config(6, None), 3)
    assert split.micro_batches == 1
    assert first_passes(split, 2) == [[[0, 1], [6, 7]], [[2, 3], [8, 9]], [[4, 5], [10, 11]]]


@pytest.mark.parametrize(('micro', 'processes'), [(None, 4), (3, 4), (2, 6)])
def test_uneven_splits_are_refused(micro: int | None, processes: int) -> None:
    with pytest.raises(ConfigError, match='must be a multiple of'):
        split_batch(config(6, micro), processes)


def test_micro_batch_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ConfigError, match='micro_batch_size must divide'):
        config(6, 4)
