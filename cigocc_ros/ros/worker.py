"""A one-slot mailbox and the one thread that owns the predictor: the newest frame wins.

Where the engine leaves the CPU alone, a thread before it prepares the next frame and a thread
behind it publishes the last one. Frames keep their order, and at most one waits between two. The
next frame is taken as late as it can be ready in time: it is the newest then, and no work is lost.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeGuard, TypeVar

from cigocc_ros.core.frames import CameraFrame, Occupancy
from cigocc_ros.core.grid import VoxelGrid
from cigocc_ros.core.manifest import ModelManifest

logger = logging.getLogger(__name__)
Item = TypeVar('Item')
WAITING_EVERY_S = 0.1
HANGS_AFTER_S = 10.0
HANG_FACTOR = 5.0
"""An item hangs after so many times the longest one so far, and after HANGS_AFTER_S at least."""
END = object()
EARLY, EARLY_S, LONGEST_WAIT_S = 1.5, 0.002, 1.0
"""The next frame is begun so many times its last preparation, and so much, before it is needed."""
STOPS_WITHIN_S = 6.0
"""Longer than a builder of engines takes to end; `ros2 launch` kills ten seconds after SIGINT."""


class NamedEngine(Protocol):
    """The part of `runtime.engine.Engine` that the node shows."""

    name: str


class FramePredictor(Protocol):
    """What the node needs of `runtime.predictor.Predictor`; tests inject their own."""

    @property
    def engine(self) -> NamedEngine:
        """Engine that runs the network."""
        ...

    @property
    def manifest(self) -> ModelManifest:
        """Manifest of the model."""
        ...

    @property
    def grid(self) -> VoxelGrid:
        """Grid of the answers."""
        ...

    def __call__(self, frame: CameraFrame) -> Occupancy:
        """Return the occupancy of a frame."""
        ...

    def warm_up(self) -> None:
        """Run once before the first frame."""
        ...

    def close(self) -> None:
        """Release the engine."""
        ...


class OverlappingPredictor(FramePredictor, Protocol):
    """A predictor whose engine leaves the CPU alone: the two halves of a call, in two threads."""

    overlaps: bool

    def prepare(self, frame: CameraFrame) -> Any:
        """Return what `infer` takes of a frame."""
        ...

    def infer(self, prepared: Any) -> Occupancy:
        """Return the occupancy of a prepared frame."""
        ...


def overlaps(predictor: FramePredictor) -> TypeGuard[OverlappingPredictor]:
    """Say whether other frames may be worked on while the engine of this predictor works."""
    return bool(getattr(predictor, 'overlaps', False))


@dataclass(frozen=True)
class Pipeline(Generic[Item]):
    """The handling of an item in three steps, each of which may end it with None.

    prepare and infer take the predictor and what the step before gave.
    """

    prepare: Callable[[FramePredictor, Item], Any | None]
    infer: Callable[[FramePredictor, Any], Any | None]
    publish: Callable[[Any], None]


class Mailbox(Generic[Item]):
    """A slot for one item; putting another one replaces what was not taken."""

    def __init__(self) -> None:
        """Start empty and open."""
        self._changed = threading.Condition()
        self._item: Item | None = None
        self.closed = threading.Event()

    def put(self, item: Item) -> bool:
        """Store `item`; return whether an older one was thrown away."""
        with self._changed:
            replaced = self._item is not None
            self._item = item
            self._changed.notify_all()
        return replaced

    def wait_empty(self) -> bool:
        """Wait until the slot is empty; return False once closed."""
        with self._changed:
            while self._item is not None and not self.closed.is_set():
                self._changed.wait()
            return not self.closed.is_set()

    def put_when_empty(self, item: Item) -> None:
        """Wait until the slot is empty and store `item`; throw it away once closed."""
        with self._changed:
            while self._item is not None and not self.closed.is_set():
                self._changed.wait()
            self._item = None if self.closed.is_set() else item
            self._changed.notify_all()

    def clear(self) -> bool:
        """Empty the slot; return whether something was thrown away."""
        with self._changed:
            had_item, self._item = self._item is not None, None
        return had_item

    def take(self) -> Item | None:
        """Wait for an item and return it; None once the mailbox is closed."""
        with self._changed:
            while self._item is None and not self.closed.is_set():
                self._changed.wait()
            item, self._item = self._item, None
            self._changed.notify_all()
            return None if self.closed.is_set() else item

    def close(self) -> None:
        """Let `take` return None from now on."""
        with self._changed:
            self.closed.set()
            self._changed.notify_all()


class Worker(Generic[Item]):
    """Create, warm up, use and close the predictor in one thread (CUDA contexts want that)."""

    def __init__(
        self,
        load: Callable[[], FramePredictor],
        handle: Callable[[FramePredictor, Item], None],
        on_crash: Callable[[], None],
        pipeline: Pipeline[Item] | None = None,
    ) -> None:
        """Take what makes the predictor, what is done per item, and whom to tell of a bug.

        pipeline: the same in steps, for a predictor that `overlaps`.
        """
        self.mailbox: Mailbox[Item] = Mailbox()
        self._prepared: Mailbox[Any] = Mailbox()
        self._inferred: Mailbox[Any] = Mailbox()
        self._pipeline = pipeline
        self.error: BaseException | None = None
        self.predictor: FramePredictor | None = None
        self._load, self._handle, self._on_crash = load, handle, on_crash
        self._ready = threading.Event()
        # a daemon: an engine that hangs must not keep the process alive
        self._thread = threading.Thread(target=self._run, name='predictor', daemon=True)
        self._began_s: float | None = None
        self._longest_s = self._prepare_s = self._infer_s = 0.0

    @property
    def hang(self) -> str:
        """What diagnostics should say of an item that takes too long; empty while none does."""
        began_s = self._began_s
        limit_s = max(HANGS_AFTER_S, HANG_FACTOR * self._longest_s)
        busy_s = 0.0 if began_s is None else time.monotonic() - began_s
        if busy_s <= limit_s:
            return ''
        return (
            f'the engine has been busy with one frame for {busy_s:.0f} s, more than {limit_s:.0f} '
            's: if it does not come back, restart the node'
        )

    def start(self, waiting: Callable[[], None] = lambda: None) -> FramePredictor:
        """Return the loaded and warmed-up predictor; raise what loading raised.

        `waiting` is called again and again until then: loading may take minutes.
        """
        self._thread.start()
        while not self._ready.wait(WAITING_EVERY_S):
            waiting()
        if self.predictor is None:
            self._thread.join()
            raise self.error or RuntimeError('the predictor thread ended without a predictor')
        return self.predictor

    def clear(self) -> int:
        """Throw away what waits; return how many items that were."""
        return int(self.mailbox.clear()) + int(self._prepared.clear())

    def stop(self) -> bool:
        """End the thread after the frame it is working on; return False where that hangs."""
        self.mailbox.close()
        self._prepared.close()
        if self._thread.is_alive():
            self._thread.join(STOPS_WITHIN_S)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._serve()
        except BaseException as error:  # kept for the main thread, which ends the process
            self._crash(error)
        finally:
            self._ready.set()

    def _crash(self, error: BaseException) -> None:
        self.error = self.error or error
        for mailbox in (self.mailbox, self._prepared, self._inferred):
            mailbox.close()
        if self._ready.is_set():
            logger.critical(
                'the %s thread stopped', threading.current_thread().name, exc_info=True
            )
            self._on_crash()

    def _serve(self) -> None:
        predictor = self._load()
        try:
            with self._timed():
                predictor.warm_up()
            self.predictor = predictor
            self._ready.set()
            if self._pipeline is not None and overlaps(predictor):
                self._serve_overlapping(predictor, self._pipeline)
            else:
                self._serve_one_by_one(predictor)
        finally:
            predictor.close()

    def _serve_one_by_one(self, predictor: FramePredictor) -> None:
        while (item := self.mailbox.take()) is not None:
            with self._timed():
                self._handle(predictor, item)

    def _serve_overlapping(self, predictor: FramePredictor, steps: Pipeline[Item]) -> None:
        """Infer in this thread; prepare and publish in threads beside it."""

        def prepare() -> None:
            while self._prepared.wait_empty():
                self._wait_for_the_moment()
                item = self.mailbox.take()
                began_s = time.monotonic()
                prepared = None if item is None else steps.prepare(predictor, item)
                self._prepare_s = time.monotonic() - began_s
                if prepared is not None:
                    self._prepared.put(prepared)

        def publish() -> None:
            while (inferred := self._inferred.take()) is not None and inferred is not END:
                steps.publish(inferred)

        logger.info('frames overlap: the CPU prepares and publishes while the engine works')
        threads = [self._beside('prepare', prepare), self._beside('publish', publish)]
        while (prepared := self._prepared.take()) is not None:
            with self._timed():
                inferred = steps.infer(predictor, prepared)
                self._infer_s = time.monotonic() - (self._began_s or 0.0)
            if inferred is not None:
                self._inferred.put_when_empty(inferred)
        self._inferred.put_when_empty(END)  # after the last frame was published
        for thread in threads:
            thread.join(STOPS_WITHIN_S)

    def _wait_for_the_moment(self) -> None:
        """Wait while the engine is busy for longer than the next frame takes to prepare."""
        began_s = self._began_s
        if began_s is not None:
            early_s = EARLY * self._prepare_s + EARLY_S
            left_s = began_s + self._infer_s - early_s - time.monotonic()
            self._prepared.closed.wait(min(max(left_s, 0.0), LONGEST_WAIT_S))

    def _beside(self, name: str, serve: Callable[[], None]) -> threading.Thread:
        def run() -> None:
            try:
                serve()
            except BaseException as error:
                self._crash(error)

        thread = threading.Thread(target=run, name=name, daemon=True)
        thread.start()
        return thread

    @contextmanager
    def _timed(self) -> Iterator[None]:
        self._began_s = began_s = time.monotonic()
        try:
            yield
        finally:
            self._began_s = None
            self._longest_s = max(self._longest_s, time.monotonic() - began_s)
