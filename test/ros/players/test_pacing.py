"""Stamps of a replay, and the life that both players share."""

import pytest

pytest.importorskip('rclpy')

from cigocc_ros.core.errors import CigoccError
from cigocc_ros.ros.players import pacing
from cigocc_ros.ros.players.pacing import Pace, Pacer, Playback

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
        assert played(Playback(stamps, loop=False), 3) == stamps


def test_the_end_and_the_loop():
    once, loop = Playback(STAMPS, loop=False), Playback(STAMPS, loop=True)
    played(once, 3)
    assert once.finished and not once.due(10**18)
    stamps = played(loop, 7)
    assert not loop.finished and loop.index == 1
    assert stamps == sorted(set(stamps))
    assert stamps[3] - stamps[2] == 125_000_000  # the mean period


def test_a_frame_is_due_at_its_stamp():
    playback = Playback(STAMPS, loop=False)
    playback.played = 1
    assert not playback.due(99_999_999) and playback.due(100_000_000)


@pytest.mark.parametrize('stamps', [[], [0, 0], [5, 4]])
def test_impossible_replays_are_refused(stamps):
    with pytest.raises(CigoccError):
        Playback(stamps, loop=False)


class Life:
    """A pacer whose clock and subscribers the test moves; what it did, in order."""

    def __init__(self, monkeypatch, rate=1.0, linger_s=0.5, frames=(0, 10**9)):
        self.now_s, self.heard, self.left = 100.0, 0, list(frames)
        self.played, self.told = [], []
        monkeypatch.setattr(pacing.time, 'monotonic', lambda: self.now_s)
        pace = Pace(5 * 10**9, rate, 2, linger_s, heard=lambda: self.heard)
        self.pacer = Pacer(self, pace, self.play, self.told.append)

    def create_timer(self, period_s, tick, clock):
        self.tick = tick

    def play(self, time_ns):
        while self.left and 5 * 10**9 + self.left[0] <= time_ns:
            self.played.append(time_ns)
            self.left.pop(0)
        return bool(self.left)

    def pass_time(self, seconds):
        for _ in range(round(seconds / 0.01)):
            self.now_s += 0.01
            self.tick()


def test_it_waits_until_enough_have_listened_for_a_second(monkeypatch):
    life = Life(monkeypatch)
    life.heard = 1
    life.pass_time(3.0)
    life.heard = 2
    life.pass_time(0.9)
    assert not life.played and set(life.told) == {5 * 10**9}
    life.pass_time(0.2)
    assert len(life.played) == 1


def test_a_subscriber_that_leaves_starts_the_second_anew(monkeypatch):
    life = Life(monkeypatch)
    life.heard = 2
    life.pass_time(0.9)
    life.heard = 1
    life.pass_time(0.1)
    life.heard = 2
    life.pass_time(0.9)
    assert not life.played
    life.pass_time(0.2)
    assert life.played
    life.heard = 0  # once it runs, nobody is waited for
    life.pass_time(1.0)
    assert len(life.played) == 2


def test_the_rate_scales_time(monkeypatch):
    life = Life(monkeypatch, rate=4.0)
    life.heard = 2
    life.pass_time(1.05)
    life.pass_time(0.15)
    assert len(life.played) == 1
    life.pass_time(0.1)
    assert len(life.played) == 2


def test_time_goes_on_a_while_after_the_last_frame(monkeypatch):
    life = Life(monkeypatch)
    life.heard = 2
    life.pass_time(2.1)
    assert len(life.played) == 2 and not life.pacer.done
    told = life.told[-1]
    life.pass_time(0.3)
    assert not life.pacer.done and life.told[-1] > told
    life.pass_time(0.3)
    assert life.pacer.done and life.told == sorted(life.told)


def test_a_pause_can_be_left_out_and_the_start_had_again(monkeypatch):
    life = Life(monkeypatch, frames=(0, 10**15))
    life.heard = 2
    life.pass_time(1.1)
    life.pacer.skip_to(5 * 10**9 + 10**15)
    life.pass_time(0.02)
    assert len(life.played) == 2
    life.left = [0]
    again = Life(monkeypatch)
    again.heard = 2
    again.pass_time(1.5)
    again.pacer.restart()
    again.pass_time(0.02)
    assert again.told[-1] < 5 * 10**9 + 10**8
