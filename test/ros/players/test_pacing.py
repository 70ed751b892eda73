"""Stamps of a replay."""

import pytest

pytest.importorskip('rclpy')

from cigocc_ros.core.errors import CigoccError
from cigocc_ros.ros.players.pacing import Playback

STAMPS = [0, 100_000_000, 250_000_000]


def played(playback: Playback, count: int) -> list[int]:
    stamps = []
    for _ in range(count):
        stamps.append(playback.stamp_ns)
        playback.played += 1
    return stamps


def test_stamps_are_those_given():
    late = [stamp + 5 * 10**9 for stamp in STAMPS]
    for stamps in (STAMPS, late):
        assert played(Playback(stamps, 1.0, loop=False), 3) == stamps


def test_the_end_and_the_loop():
    once, loop = Playback(STAMPS, 1.0, loop=False), Playback(STAMPS, 1.0, loop=True)
    played(once, 3)
    assert once.finished and not once.due(10**18)
    stamps = played(loop, 7)
    assert not loop.finished and loop.index == 1
    assert stamps == sorted(set(stamps))
    assert stamps[3] - stamps[2] == 125_000_000  # the mean period


def test_the_rate_scales_time():
    playback = Playback(STAMPS, 2.0, loop=False)
    assert playback.time_ns(0.5) == playback.first_ns + 10**9
    playback.played = 1
    assert not playback.due(playback.time_ns(0.049))
    assert playback.due(playback.time_ns(0.051))


@pytest.mark.parametrize(
    ('stamps', 'rate'), [([], 1.0), ([0, 0], 1.0), ([5, 4], 1.0), ([0, 1], 0.0)]
)
def test_impossible_replays_are_refused(stamps, rate):
    with pytest.raises(CigoccError):
        Playback(stamps, rate, loop=False)
