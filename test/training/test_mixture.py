"""Sets of frames are drawn in their proportion, each frame once per epoch of its set."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from cigocc_ros.core.errors import ConfigError
from cigocc_ros.training.cache import FrameRef
from cigocc_ros.training.mixture import BLOCK, FrameSet, Mixture


def refs(name: str, count: int) -> tuple[FrameRef, ...]:
    return tuple(FrameRef(Path(name), f'{i:06d}', Path(f'{name}/{i}.npz')) for i in range(count))


def test_sets_are_drawn_in_their_proportion() -> None:
    mixture = Mixture((FrameSet(refs('synth', 50), 3.0), FrameSet(refs('real', 4), 1.0)), seed=1)
    drawn = Counter(mixture.frame(draw).sequence.name for draw in range(3 * BLOCK))
    assert drawn == {'synth': 3 * 48, 'real': 3 * 16}


def test_each_set_shows_all_its_frames_before_one_again() -> None:
    mixture = Mixture((FrameSet(refs('synth', 50), 0.5), FrameSet(refs('real', 4), 0.5)), seed=1)
    real = [f.frame_id for f in map(mixture.frame, range(BLOCK)) if f.sequence.name == 'real']
    epochs = [real[i : i + 4] for i in range(0, 32, 4)]
    assert all(sorted(epoch) == sorted(epochs[0]) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_draws_depend_on_the_seed_alone() -> None:
    sets = (FrameSet(refs('a', 9), 0.3), FrameSet(refs('b', 7), 0.7))
    one, same, other = ([Mixture(sets, s).frame(k) for k in range(200)] for s in (1, 1, 2))
    assert one == same != other


def test_rounded_shares_fill_the_block() -> None:
    sets = tuple(FrameSet(refs(name, 2), 1.0) for name in 'abc')
    assert sorted(Mixture(sets, 0).quotas) == [21, 21, 22]


@pytest.mark.parametrize('weights', [(1.0, 0.0), (1.0, -1.0), (1.0, 1e-6), (1.0, float('inf'))])
def test_shares_that_vanish_are_refused(weights: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match='weight'):
        Mixture(tuple(FrameSet(refs('a', 2), weight) for weight in weights), 0)


def test_empty_set_is_refused() -> None:
    with pytest.raises(ConfigError, match='0 frames'):
        Mixture.of([], 0)
