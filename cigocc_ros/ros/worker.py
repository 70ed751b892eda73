"""A one-slot mailbox and the one thread that owns the predictor: the newest frame wins."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

from cigocc_ros.core.frames import CameraFrame, Occupancy
from cigocc_ros.core.grid import VoxelGrid
from cigocc_ros.core.manifest import ModelManifest

logger = logging.getLogger(__name__)
Item = TypeVar('Item')
WAITING_EVERY_S = 0.1
HANGS_AFTER_S = 10.0
HANG_FACTOR = 5.0
"""An item hangs after so many times the longest one so far, and after HANGS_AFTER_S at least."""
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


class Mailbox(Generic[Item]):
    """A slot for one item; putting another one replaces what was not taken."""

    def __init__(self) -> None:
        """Start empty and open."""
        self._changed = threading.Condition()
        self._item: Item | None = None
        self._closed = False

    def put(self, item: Item) -> bool:
        """Store `item`; return whether an older one was thrown away."""
        with self._changed:
            replaced = self._item is not None
            self._item = item
            self._changed.notify()
        return replaced

    def clear(self) -> bool:
        """Empty the slot; return whether something was thrown away."""
        with self._changed:
            had_item, self._item = self._item is not None, None
        return had_item

    def take(self) -> Item | None:
        """Wait for an item and return it; None once the mailbox is closed."""
        with self._changed:
            while self._item is None and not self._closed:
                self._changed.wait()
            item, self._item = self._item, None
            return None if self._closed else item

    def close(self) -> None:
        """Let `take` return None from now on."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class Worker(Generic[Item]):
    """Create, warm up, use and close the predictor in one thread (CUDA contexts want that)."""

    def __init__(
        self,
        load: Callable[[], FramePredictor],
        handle: Callable[[FramePredictor, Item], None],
        on_crash: Callable[[], None],
    ) -> None:
        """Take what makes the predictor, what is done per item, and whom to tell of a bug."""
        self.mailbox: Mailbox[Item] = Mailbox()
        self.error: BaseException | None = None
        self.predictor: FramePredictor | None = None
        self._load, self._handle, self._on_crash = load, handle, on_crash
        self._ready = threading.Event()
        # a daemon: an engine that hangs must not keep the process alive
        self._thread = threading.Thread(target=self._run, name='predictor', daemon=True)
        self._began_s: float | None = None
        self._longest_s = 0.0

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

    def stop(self) -> bool:
        """End the thread after the frame it is working on; return False where that hangs."""
        self.mailbox.close()
        if self._thread.is_alive():
            self._thread.join(STOPS_WITHIN_S)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._serve()
        except BaseException as error:  # kept for the main thread, which ends the process
            self.error = error
            if self._ready.is_set():
                logger.critical('the predictor thread stopped', exc_info=True)
                self._on_crash()
        finally:
            self._ready.set()

    def _serve(self) -> None:
        predictor = self._load()
        try:
            with self._timed():
                predictor.warm_up()
            self.predictor = predictor
            self._ready.set()
            while (item := self.mailbox.take()) is not None:
                with self._timed():
                    self._handle(predictor, item)
        finally:
            predictor.close()

    @contextmanager
    def _timed(self) -> Iterator[None]:
        self._began_s = began_s = time.monotonic()
        try:
            yield
        finally:
            self._began_s = None
            self._longest_s = max(self._longest_s, time.monotonic() - began_s)
