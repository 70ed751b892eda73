"""The mailbox and the thread that owns the predictor."""

import threading

import pytest

pytest.importorskip('rclpy')

from fixtures_ros import WAIT_S, FakePredictor

from cigocc_ros.core.errors import ManifestError
from cigocc_ros.ros.worker import Mailbox, Pipeline, Worker


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


def test_putting_when_empty_waits_and_a_closed_mailbox_lets_go():
    mailbox, done = Mailbox(), []
    mailbox.put(1)
    thread = threading.Thread(target=lambda: done.append(mailbox.put_when_empty(2)))
    thread.start()
    thread.join(0.05)
    assert not done and mailbox.take() == 1
    thread.join(WAIT_S)
    assert mailbox.take() == 2
    mailbox.put(3)
    thread = threading.Thread(target=lambda: done.append(mailbox.put_when_empty(4)))
    thread.start()
    mailbox.close()
    thread.join(WAIT_S)
    assert len(done) == 2


class Overlapping(FakePredictor):
    """An engine of a GPU: the CPU is free while it works."""

    overlaps = True

    def prepare(self, frame):
        return frame

    def infer(self, prepared):
        return self(prepared)


class Steps:
    """Steps that wait to be let go, and what went through them in which thread."""

    def __init__(self):
        self.gates = {name: threading.Semaphore(0) for name in ('prepare', 'infer', 'publish')}
        self.begun = {name: [] for name in self.gates}
        self.done = {name: [] for name in self.gates}
        self.threads = {}
        self.changed = threading.Condition()
        self.fails = None

    def step(self, name, item):
        self.threads[name] = threading.current_thread().name
        with self.changed:
            self.begun[name].append(item)
            self.changed.notify_all()
        assert self.gates[name].acquire(timeout=WAIT_S)
        if self.fails == name:
            raise KeyError('bug')
        with self.changed:
            self.done[name].append(item)
            self.changed.notify_all()
        return item

    def worker(self, on_crash=lambda: pytest.fail('crashed')):
        pipeline = Pipeline(
            lambda _, item: self.step('prepare', item),
            lambda _, item: self.step('infer', item),
            lambda item: self.step('publish', item),
        )
        never = lambda *_: pytest.fail('one by one')  # noqa: E731
        worker = Worker(Overlapping, never, on_crash, pipeline)
        worker.start()
        return worker

    def until(self, condition):
        with self.changed:
            assert self.changed.wait_for(condition, WAIT_S), (self.begun, self.done)

    def let(self, name, count=1):
        self.gates[name].release(count)

    def open(self):
        for gate in self.gates.values():
            gate.release(1000)


def test_three_frames_are_worked_on_at_once():
    steps = Steps()
    worker = steps.worker()
    worker.mailbox.put(1)
    steps.let('prepare')
    steps.until(lambda: steps.begun['infer'] == [1])
    worker.mailbox.put(2)
    steps.let('prepare')
    steps.let('infer')
    steps.until(lambda: steps.begun['infer'] == [1, 2] and steps.begun['publish'] == [1])
    worker.mailbox.put(3)
    steps.until(lambda: steps.begun['prepare'] == [1, 2, 3])
    # 3 is prepared, 2 is in the engine, 1 is published
    assert steps.done == {'prepare': [1, 2], 'infer': [1], 'publish': []}
    assert steps.threads == {'prepare': 'prepare', 'infer': 'predictor', 'publish': 'publish'}
    steps.open()
    steps.until(lambda: steps.done['publish'] == [1, 2, 3])
    assert worker.stop()


def test_the_newest_frame_wins_and_none_is_prepared_in_vain():
    steps = Steps()
    worker = steps.worker()
    worker.mailbox.put(0)
    steps.let('prepare', 100)
    steps.until(lambda: steps.begun['infer'] == [0])
    worker.mailbox.put(1)
    steps.until(lambda: steps.done['prepare'] == [0, 1])
    assert [worker.mailbox.put(item) for item in (2, 3, 4)] == [False, True, True]
    steps.open()
    steps.until(lambda: steps.done['publish'] == [0, 1, 4])
    assert worker.stop() and steps.done['prepare'] == [0, 1, 4]


def test_the_next_frame_is_taken_late_so_that_it_is_new():
    """An engine of 0.2 s: the frame after is not the one that was there when it began."""
    taken, published = [], []

    def infer(_, item):
        threading.Event().wait(0.2)
        return item

    def prepare(_, item):
        taken.append(item)
        return item

    worker = Worker(
        Overlapping, lambda *_: None, lambda: None, Pipeline(prepare, infer, published.append)
    )
    worker.start()
    for item in range(100):  # one each 10 ms
        worker.mailbox.put(item)
        threading.Event().wait(0.01)
    assert worker.stop()
    assert taken[: len(published)] == published
    gaps = [b - a for a, b in zip(published[1:], published[2:], strict=False)]
    assert gaps and min(gaps) >= 10  # of the frames since the last one, among the newest


def test_what_waits_for_the_engine_is_cleared_too():
    steps = Steps()
    worker = steps.worker()
    worker.mailbox.put(0)
    steps.let('prepare', 100)
    steps.until(lambda: steps.begun['infer'] == [0])
    worker.mailbox.put(1)
    steps.until(lambda: steps.done['prepare'] == [0, 1])
    cleared = 0
    while not cleared:  # between the end of its preparation and its place in the slot
        cleared = worker.clear()
    steps.open()
    steps.until(lambda: steps.done['publish'] == [0])
    assert worker.stop() and steps.done['infer'] == [0] and cleared == 1


def test_publishing_that_is_slow_holds_the_engine_up_and_loses_nothing():
    steps = Steps()
    worker = steps.worker()
    steps.let('prepare', 100)
    steps.let('infer', 100)
    for item in range(3):
        worker.mailbox.put(item)
        steps.until(lambda item=item: item in steps.done['infer'])
    worker.mailbox.put(3)
    steps.until(lambda: 3 in steps.done['prepare'])
    assert steps.begun['publish'] == [0] and 3 not in steps.done['infer']
    steps.open()
    steps.until(lambda: steps.done['publish'] == [0, 1, 2, 3])
    assert worker.stop()


def test_a_frame_in_the_engine_is_published_before_the_end():
    steps = Steps()
    worker = steps.worker()
    worker.mailbox.put(0)
    steps.let('prepare')
    steps.until(lambda: steps.begun['infer'] == [0])
    ended = []
    thread = threading.Thread(target=lambda: ended.append(worker.stop()))
    thread.start()
    steps.open()
    thread.join(WAIT_S)
    assert ended == [True] and steps.done['publish'] == [0]
    assert worker.predictor.closed


@pytest.mark.parametrize('name', ['prepare', 'infer', 'publish'])
def test_a_bug_in_any_thread_is_told_and_ends_all(name):
    crashed, steps = threading.Event(), Steps()
    steps.fails = name
    worker = steps.worker(crashed.set)
    worker.mailbox.put(0)
    steps.open()
    assert crashed.wait(WAIT_S)
    assert worker.stop()
    assert isinstance(worker.error, KeyError) and worker.predictor.closed


def test_a_step_that_drops_its_frame_ends_it_there():
    published = []
    pipeline = Pipeline(
        lambda _, item: None if item == 1 else item,
        lambda _, item: None if item == 2 else item,
        published.append,
    )
    worker = Worker(Overlapping, lambda *_: None, lambda: None, pipeline)
    worker.start()
    for item in (0, 1, 2, 3):
        worker.mailbox.put_when_empty(item)
        worker.mailbox.put_when_empty(item)
        threading.Event().wait(0.05)
    assert worker.stop()
    assert set(published) == {0, 3}


def test_a_hang_of_the_engine_is_seen_while_frames_overlap(monkeypatch):
    from cigocc_ros.ros import worker as module

    monkeypatch.setattr(module, 'HANGS_AFTER_S', 0.0)
    steps = Steps()
    worker = steps.worker()
    assert not worker.hang
    worker.mailbox.put(0)
    steps.let('prepare')
    steps.until(lambda: steps.begun['infer'] == [0])
    threading.Event().wait(0.05)
    assert 'the engine has been busy' in worker.hang
    steps.open()
    steps.until(lambda: steps.done['publish'] == [0])
    assert worker.stop() and not worker.hang


def test_an_engine_of_the_cpu_is_served_one_by_one():
    threads = []

    def handle(_, item):
        threads.append((item, threading.current_thread().name))

    never = lambda *_: pytest.fail('overlapped')  # noqa: E731
    pipeline = Pipeline(never, never, never)
    worker = Worker(FakePredictor, handle, lambda: None, pipeline)
    worker.start()
    worker.mailbox.put_when_empty(0)
    worker.mailbox.put_when_empty(1)
    while len(threads) < 2:
        threading.Event().wait(0.01)
    assert worker.stop() and threads == [(0, 'predictor'), (1, 'predictor')]
