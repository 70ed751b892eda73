"""Which frame each draw of a training run shows, from one or several sets of frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.errors import ConfigError
from cigocc_ros.training.cache import FrameRef

BLOCK = 64
"""Draws within which every set gets its share exactly (shares are rounded to 1/64)."""
_ORDER, _BLOCK = 0, 2  # separate the random numbers of both uses from those of augmentation, 1


class Era(NamedTuple):
    """From when on a set draws from how many of its frames."""

    begin: int
    """Draws of the set before it, the end of an epoch of the era before."""
    size: int
    """Frames, the first so many of the set."""


@dataclass(frozen=True)
class FrameSet:
    """Frames of one data folder and their share of the draws."""

    frames: tuple[FrameRef, ...]
    weight: float = 1.0
    eras: tuple[Era, ...] = ()
    """Where frames came while it was drawn from; none for all frames from the start."""

    def __post_init__(self) -> None:
        """Raise ConfigError for a set that cannot be drawn from."""
        if not self.frames or not 0 < self.weight < float('inf'):
            raise ConfigError(
                f'a set of frames needs frames and a positive weight, found {len(self.frames)} '
                f'frames and weight {self.weight}'
            )

    @property
    def history(self) -> tuple[Era, ...]:
        """All eras, the first from the start."""
        return self.eras or (Era(0, len(self.frames)),)

    def era(self, own_draw: int) -> tuple[int, Era]:
        """Return number and era of a draw of this set."""
        number = sum(era.begin <= own_draw for era in self.history) - 1
        return number, self.history[number]

    def grown(self, frames: Sequence[FrameRef], drawn: int) -> FrameSet:
        """Return the set with more frames, from its next epoch on, after `drawn` draws."""
        era = self.era(drawn)[1]
        begin = era.begin + -(-(drawn - era.begin) // era.size) * era.size
        before = tuple(one for one in self.history if one.begin < begin)
        every = (*self.frames, *frames)
        return replace(self, frames=every, eras=(*before, Era(begin, len(every))))


@dataclass(frozen=True)
class Mixture:
    """Sets of frames, drawn in the proportion of their weights.

    Draw k is a function of seed and k alone. Each set shows all its frames once, in a new order,
    before it shows one again.
    """

    sets: tuple[FrameSet, ...]
    seed: int

    def __post_init__(self) -> None:
        """Raise ConfigError where there is nothing to draw, or a share vanishes."""
        if not self.sets or len(self.sets) > BLOCK:
            raise ConfigError(f'expected 1 to {BLOCK} sets of frames, found {len(self.sets)}')
        if 0 in self.quotas:
            weights = [one.weight for one in self.sets]
            raise ConfigError(f'weights {weights}: the smallest share must be at least 1/{BLOCK}')

    @classmethod
    def of(cls, frames: Sequence[FrameRef], seed: int) -> Mixture:
        """Return the mixture of a single set."""
        return cls((FrameSet(tuple(frames)),), seed)

    @property
    def frames(self) -> tuple[FrameRef, ...]:
        """All frames of all sets."""
        return tuple(frame for one in self.sets for frame in one.frames)

    @cached_property
    def quotas(self) -> NDArray[np.int64]:
        """Draws of each set within a block, by largest remainder."""
        weights = np.array([one.weight for one in self.sets])
        exact = BLOCK * weights / weights.sum()
        quotas: NDArray[np.int64] = np.floor(exact).astype(np.int64)
        quotas[np.argsort(quotas - exact, kind='stable')[: BLOCK - quotas.sum()]] += 1
        return quotas

    def frame(self, draw: int) -> FrameRef:
        """Return the frame of draw `draw`."""
        index, own_draw = self._set_and_draw(draw)
        one = self.sets[index]
        number, era = one.era(own_draw)
        epoch, position = divmod(own_draw - era.begin, era.size)
        key = (self.seed, _ORDER, index, epoch, *((number,) if number else ()))
        order = np.random.default_rng(key).permutation(era.size)
        return one.frames[int(order[position])]

    def grown(self, index: int, frames: Sequence[FrameRef], draw: int) -> Mixture:
        """Return the mixture with more frames in a set, which no draw before `draw` shows.

        They are drawn from the next epoch of the set on: the one in hand goes to its end.
        """
        block, position = divmod(draw, BLOCK)
        drawn = block * int(self.quotas[index])
        drawn += int((self._owners(block)[:position] == index).sum())
        sets = list(self.sets)
        sets[index] = sets[index].grown(frames, drawn)
        return Mixture(tuple(sets), self.seed)

    def _set_and_draw(self, draw: int) -> tuple[int, int]:
        """Return the set of a draw and how often that set was drawn before."""
        block, position = divmod(draw, BLOCK)
        owners = self._owners(block)
        index = int(owners[position])
        before = int((owners[:position] == index).sum())
        return index, block * int(self.quotas[index]) + before

    def _owners(self, block: int) -> NDArray[np.int64]:
        """Return the set of each draw of a block."""
        owners = np.repeat(np.arange(len(self.sets)), self.quotas)
        return np.random.default_rng((self.seed, _BLOCK, block)).permutation(owners)
