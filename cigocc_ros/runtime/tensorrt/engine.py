"""Run a TensorRT engine in a thread of its own, under a watchdog.

The thread owns what other threads must not touch. A late frame is no broken GPU: it is waited for,
and until it comes back frames are dropped. An old context is closed before a new one is made, so
that memory is never needed twice.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from typing import Any, TypeVar

from cigocc_ros.core.errors import EngineError
from cigocc_ros.core.manifest import ModelManifest
from cigocc_ros.runtime.contract import Arrays, check_arrays
from cigocc_ros.runtime.tensorrt.session import TensorRtSession

Result = TypeVar('Result')


class OwnerThread:
    """Run calls one after another in one thread."""

    def __init__(self, name: str) -> None:
        """Start the thread. A daemon: a hung driver call must not keep the process alive."""
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None]
        self._calls = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def submit(self, function: Callable[[], Result]) -> Future[Result]:
        """Let the thread call `function` when all calls before are done; return its answer."""
        answer: Future[Result] = Future()
        self._calls.put((function, answer))
        return answer

    def call(self, function: Callable[[], Result], timeout_s: float) -> Result:
        """Return what `function` returns, raise what it raises, or TimeoutError: it goes on."""
        return answer_of(self.submit(function), timeout_s)

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


def answer_of(answer: Future[Result], timeout_s: float) -> Result:
    """Return or raise what a call did; raise TimeoutError after `timeout_s`, the call goes on."""
    try:
        return answer.result(timeout_s)
    except FutureTimeoutError as error:  # the built-in one only since Python 3.11
        if answer.done() and answer.exception() is error:
            raise  # what the function raised
        raise TimeoutError(f'no answer within {timeout_s:g} s') from error


logger = logging.getLogger(__name__)

THREAD_NAME = 'tensorrt'
LOAD_DEADLINE_S = 120.0
"""TensorRT-RTX compiles for the GPU while it loads; everything else takes a few seconds."""
CLOSE_DEADLINE_S = 5.0
PATIENCE = 10
"""How many deadlines a late frame is waited for before the GPU counts as hung."""
MAX_REBUILDS, FORGIVEN_AFTER_S = 1, 60.0
"""How many contexts may be replaced within how long a time."""
RESTART = 'restart the node; if it happens again look at dmesg for Xid lines and at nvidia-smi'

SessionFactory = Callable[[], TensorRtSession]


@dataclass
class _Unanswered:
    """A call that is not back in time."""

    what: str
    answer: Future[Any]
    began_s: float
    hung: bool = False

    @property
    def waited_s(self) -> float:
        """How long it has been away."""
        return time.monotonic() - self.began_s


class TensorRtEngine:
    """A session behind the engine protocol.

    A frame past its deadline is lost, and so are those that come until it is back. A frame that
    fails, or hangs for more than PATIENCE deadlines, costs its context, which is replaced: once
    within FORGIVEN_AFTER_S, a second time is final.
    """

    on_gpu = True

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
        self.rebuilds = self.late = 0
        """Contexts that were replaced, and frames that missed the deadline, since the start."""
        self.problem = ''
        """What diagnostics should show as an error; empty while all is well."""
        self._make_session, self._deadline_s = make_session, deadline_s
        self._closed = self._lost = False
        self._unanswered: _Unanswered | None = None
        self._rebuilt_s: list[float] = []
        self._turn = threading.Lock()
        self._thread = OwnerThread(THREAD_NAME)
        self._session: TensorRtSession | None = None
        try:
            self._open()
        except BaseException:
            self._thread.stop(_nothing, 0.0)
            raise

    def run(self, arrays: Arrays) -> Arrays:
        """Return the named outputs.

        Raises EngineError for inputs off the contract, for a frame that failed or took longer than
        the deadline, at once for those that come before it is back, and for all once the engine is
        lost.
        """
        check_arrays(self.inputs, arrays)
        with self._turn:
            return self._run(arrays)

    def _run(self, arrays: Arrays) -> Arrays:
        if self._closed or self._lost:
            raise EngineError(self.problem or f'{self.name}: run() after close()')
        self._settle()
        session = self._session
        if session is None:
            session = self._reopen()
        answer, began_s = self._thread.submit(lambda: session.run(arrays)), time.monotonic()
        try:
            return answer_of(answer, self._deadline_s)
        except TimeoutError as error:
            self.late += 1
            self._unanswered = _Unanswered('a frame', answer, began_s)
            raise EngineError(
                f'{self.name}: no answer within {self._deadline_s:g} s; the frame is lost, and so '
                'are others until the GPU is back; raise tensorrt.deadline_s if it is only slow'
            ) from error
        except EngineError as error:
            raise self._replace(str(error)) from error

    def close(self) -> None:
        """Release the GPU; what hangs is left to the end of the process."""
        if not self._closed:
            self._closed = True
            if not self._thread.stop(self._release, CLOSE_DEADLINE_S):
                logger.error('%s: the GPU does not answer; its memory is not released', self.name)

    def _open(self) -> TensorRtSession:
        """Make a session; its predecessor must be closed."""
        try:
            self._session = self._thread.call(self._make_session, LOAD_DEADLINE_S)
        except TimeoutError as error:
            raise EngineError(
                f'{self.name}: not loaded within {LOAD_DEADLINE_S:g} s; {RESTART}'
            ) from error
        return self._session

    def _reopen(self) -> TensorRtSession:
        try:
            session = self._open()
        except Exception as error:
            raise self._give_up(f'rebuilding the context failed: {error}') from error
        self.problem = ''
        logger.warning(
            '%s: new context; another failure within %g s is final', self.name, FORGIVEN_AFTER_S
        )
        return session

    def _settle(self) -> None:
        """Take the answer of a late call; raise EngineError while there is none."""
        late = self._unanswered
        if late is None:
            return
        if not late.answer.done():
            raise self._still_waiting(late)
        self._unanswered = None
        failed = late.answer.exception()
        if failed is not None:
            raise self._replace(str(failed))
        logger.warning('%s: %s was back after %.1f s', self.name, late.what, late.waited_s)
        if late.hung and self._session is not None:
            raise self._replace(f'the GPU hung for {late.waited_s:.1f} s')

    def _still_waiting(self, late: _Unanswered) -> EngineError:
        waited = f'{self.name}: {late.what} has been on the GPU for {late.waited_s:.1f} s'
        if late.waited_s > PATIENCE * self._deadline_s:
            if not late.hung:
                logger.critical('%s; %s', waited, RESTART)
            late.hung = True
            self.problem = f'{waited}: it hangs; unless it comes back, {RESTART}'
            return EngineError(self.problem)
        limit = f'tensorrt.deadline_s is {self._deadline_s:g}'
        return EngineError(f'{waited}, {limit}; this frame is dropped')

    def _replace(self, reason: str) -> EngineError:
        """Close the context and make another, or give up; return what this frame ends with."""
        now = time.monotonic()
        self._rebuilt_s = [then for then in self._rebuilt_s if now - then < FORGIVEN_AFTER_S]
        if len(self._rebuilt_s) >= MAX_REBUILDS:
            return self._give_up(reason)
        self._rebuilt_s.append(now)
        self.rebuilds += 1
        self.problem = f'{self.name}: {reason}; the context is being rebuilt'
        logger.error('%s', self.problem)
        closing = self._thread.submit(self._release)
        try:
            answer_of(closing, CLOSE_DEADLINE_S)
            self._reopen()
        except TimeoutError:
            self._unanswered = _Unanswered('closing the old context', closing, now)
        except EngineError as error:
            return EngineError(f'{error}; after {reason}')
        return EngineError(f'{self.name}: {reason}; the frame is lost, the context is replaced')

    def _release(self) -> None:
        """Close the session, in its thread."""
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def _give_up(self, reason: str) -> EngineError:
        self._lost = True
        self.problem = f'{self.name}: lost, {reason}; {RESTART}'
        logger.critical('%s', self.problem)
        return EngineError(self.problem)


def _nothing() -> None:
    """Do nothing: the last call of a thread that owns nothing."""
