"""Run a TensorRT engine in a thread of its own, under a watchdog.

The thread owns what other threads must not touch, and is given up when it hangs.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, TypeVar

from cigocc_ros.core.errors import EngineError
from cigocc_ros.core.manifest import ModelManifest
from cigocc_ros.runtime.contract import Arrays, check_arrays
from cigocc_ros.runtime.tensorrt.session import TensorRtSession

Result = TypeVar('Result')


class OwnerThread:
    """Run calls one after another in one thread; each has a deadline."""

    def __init__(self, name: str) -> None:
        """Start the thread. A daemon: a hung driver call must not keep the process alive."""
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None]
        self._calls = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def call(self, function: Callable[[], Result], timeout_s: float) -> Result:
        """Return what `function` returns, raise what it raises.

        Raises TimeoutError after `timeout_s`; the call goes on, and so would everything after it.
        """
        answer: Future[Result] = Future()
        self._calls.put((function, answer))
        try:
            return answer.result(timeout_s)
        except FutureTimeoutError as error:  # the built-in one only since Python 3.11
            if answer.done() and answer.exception() is error:
                raise  # what `function` raised
            raise TimeoutError(f'no answer within {timeout_s:g} s') from error

    def stop(self, last: Callable[[], None], timeout_s: float) -> bool:
        """Run `last` when all calls are done, then end; return whether it did in time."""
        self._calls.put((last, Future()))
        self._calls.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            function, answer = call
            try:
                answer.set_result(function())
            except BaseException as error:
                answer.set_exception(error)


logger = logging.getLogger(__name__)

THREAD_NAME = 'tensorrt'
LOAD_DEADLINE_S = 120.0
"""TensorRT-RTX compiles for the GPU while it loads; everything else takes a few seconds."""
CLOSE_DEADLINE_S = 5.0
MAX_REBUILDS = 1
RESTART = 'restart the node; if it happens again look at dmesg for Xid lines and at nvidia-smi'

SessionFactory = Callable[[], TensorRtSession]


class TensorRtEngine:
    """A session behind the engine protocol; a frame that hangs costs its context, once."""

    def __init__(
        self,
        make_session: SessionFactory,
        manifest: ModelManifest,
        name: str,
        deadline_s: float,
    ) -> None:
        """Make the session in a new thread that owns it; raise what that raises."""
        self.name = name
        self.inputs, self.outputs = manifest.inputs, manifest.outputs
        self.rebuilds = 0
        self.problem = ''
        """What diagnostics should show as an error; empty while all is well."""
        self._make_session, self._deadline_s = make_session, deadline_s
        self._closed = self._lost = False
        self._turn = threading.Lock()
        self._thread, self._session = self._start()

    def run(self, arrays: Arrays) -> Arrays:
        """Return the named outputs.

        Raises EngineError for inputs off the contract, and for a frame that failed or took longer
        than the deadline on the GPU. The first such frame also replaces the context; after a
        second one every call raises at once.
        """
        check_arrays(self.inputs, arrays)
        with self._turn:
            return self._run(arrays)

    def _run(self, arrays: Arrays) -> Arrays:
        if self._closed or self._lost:
            raise EngineError(self.problem or f'{self.name}: run() after close()')
        session = self._session
        try:
            return self._thread.call(lambda: session.run(arrays), self._deadline_s)
        except TimeoutError as error:
            problem = f'the GPU gave no answer within {self._deadline_s:g} s'
            raise self._recover(problem) from error
        except EngineError as error:
            raise self._recover(str(error)) from error

    def close(self) -> None:
        """Release the GPU; what hangs is left to the end of the process."""
        if not self._closed:
            self._closed = True
            self._abandon(CLOSE_DEADLINE_S)

    def _start(self) -> tuple[OwnerThread, TensorRtSession]:
        thread = OwnerThread(THREAD_NAME)
        try:
            return thread, thread.call(self._make_session, LOAD_DEADLINE_S)
        except TimeoutError as error:
            raise EngineError(
                f'{self.name}: not loaded within {LOAD_DEADLINE_S:g} s; {RESTART}'
            ) from error
        except BaseException:
            thread.stop(_nothing, 0.0)
            raise

    def _recover(self, reason: str) -> EngineError:
        """Replace thread and context, or give up; return the error that this frame ends with."""
        if self.rebuilds >= MAX_REBUILDS:
            return self._give_up(reason)
        self.rebuilds += 1
        self.problem = f'{self.name}: {reason}; the context is being rebuilt'
        logger.error('%s', self.problem)
        self._abandon(0.0)
        try:
            self._thread, self._session = self._start()
        except Exception as error:
            return self._give_up(f'{reason}; rebuilding the context failed: {error}')
        self.problem = ''
        logger.warning('%s: new context; the next such failure is final', self.name)
        return EngineError(f'{self.name}: {reason}; the frame is lost, the context was rebuilt')

    def _give_up(self, reason: str) -> EngineError:
        self._lost = True
        self.problem = f'{self.name}: lost, {reason}; {RESTART}'
        logger.critical('%s', self.problem)
        return EngineError(self.problem)

    def _abandon(self, timeout_s: float) -> None:
        """Let the thread release what it owns when it can, and wait so long at most."""
        if not self._thread.stop(self._session.close, timeout_s) and timeout_s:
            logger.error('%s: the GPU does not answer; its memory is not released', self.name)


def _nothing() -> None:
    """Do nothing: the last call of a thread that owns nothing."""
