"""Which frame each draw of a training run shows, from one or several sets of frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.errors import ConfigError
from cigocc_ros.training.cache import FrameRef

BLOCK = 64
"""Draws within which every set gets its share exactly (shares are rounded to 1/64)."""
_ORDER, _BLOCK = 0, 2  # separate the random numbers of both uses from those of augmentation, 1


@dataclass(frozen=True)
class FrameSet:
    """Frames of one data folder and their share of the draws."""

    frames: tuple[FrameRef, ...]
    weight: float = 1.0

    def __post_init__(self) -> None:
        """Raise ConfigError for a set that cannot be drawn from."""
        if not self.frames or not 0 < self.weight < float('inf'):
            raise ConfigError(
                f'a set of frames needs frames and a positive weight, found {len(self.frames)} '
                f'frames and weight {self.weight}'
            )


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
        frames = self.sets[index].frames
        epoch, position = divmod(own_draw, len(frames))
        order = np.random.default_rng((self.seed, _ORDER, index, epoch)).permutation(len(frames))
        return frames[int(order[position])]

    def _set_and_draw(self, draw: int) -> tuple[int, int]:
        """Return the set of a draw and how often that set was drawn before."""
        block, position = divmod(draw, BLOCK)
        owners = np.repeat(np.arange(len(self.sets)), self.quotas)
        owners = np.random.default_rng((self.seed, _BLOCK, block)).permutation(owners)
        index = int(owners[position])
        before = int((owners[:position] == index).sum())
        return index, block * int(self.quotas[index]) + before
