"""The mailbox and the thread that owns the predictor."""

import threading

import pytest

pytest.importorskip('rclpy')

from fixtures_ros import WAIT_S, FakePredictor

from cigocc_ros.core.errors import ManifestError
from cigocc_ros.ros.worker import Mailbox, Worker


def test_the_newest_item_wins_and_replacements_are_told():
    mailbox = Mailbox()
    assert [mailbox.put(item) for item in (1, 2, 3)] == [False, True, True]
    assert mailbox.take() == 3
    assert mailbox.put(4) is False
    assert mailbox.clear() is True
    assert mailbox.clear() is False


def test_take_waits_and_close_ends_it():
    mailbox, got_one, taken = Mailbox(), threading.Event(), []

    def take_two():
        taken.append(mailbox.take())
        got_one.set()
        taken.append(mailbox.take())

    thread = threading.Thread(target=take_two)
    thread.start()
    mailbox.put('frame')
    assert got_one.wait(WAIT_S)
    mailbox.close()
    thread.join(WAIT_S)
    assert taken == ['frame', None]


def test_frames_that_come_while_one_is_worked_on_are_replaced():
    busy, go_on, handled = threading.Event(), threading.Event(), []

    def handle(_, item):
        handled.append(item)
        busy.set()
        assert go_on.wait(WAIT_S)

    worker = Worker(FakePredictor, handle, on_crash=lambda: None)
    worker.start()
    worker.mailbox.put(0)
    assert busy.wait(WAIT_S)
    replaced = [worker.mailbox.put(item) for item in range(1, 6)]
    busy.clear()
    go_on.set()
    assert busy.wait(WAIT_S)
    worker.stop()
    assert handled == [0, 5]
    assert replaced == [False, True, True, True, True]


def test_one_thread_loads_uses_and_closes():
    predictor, used_by = FakePredictor(), []
    worker = Worker(lambda: predictor, lambda p, _: used_by.append(p), on_crash=lambda: None)
    assert worker.start() is predictor
    assert predictor.threads == {'predictor'}
    worker.stop()
    assert predictor.closed


def test_what_loading_raises_comes_out_of_start():
    def load():
        raise ManifestError('no such model')

    worker = Worker(load, lambda *_: None, on_crash=lambda: pytest.fail('not a crash'))
    with pytest.raises(ManifestError, match='no such model'):
        worker.start()
    worker.stop()


def test_a_bug_in_the_handler_is_told_and_kept():
    crashed = threading.Event()

    def handle(*_):
        raise KeyError('bug')

    predictor = FakePredictor()
    worker = Worker(lambda: predictor, handle, on_crash=crashed.set)
    worker.start()
    worker.mailbox.put(1)
    assert crashed.wait(WAIT_S)
    worker.stop()
    assert isinstance(worker.error, KeyError)
    assert predictor.closed
