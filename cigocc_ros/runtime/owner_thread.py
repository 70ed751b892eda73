"""A thread that owns what other threads must not touch, and may be given up when it hangs."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, TypeVar

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
