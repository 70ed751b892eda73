"""Build an engine in a process of its own: a build that crashes must not take the node along."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from cigocc_ros.core.errors import EngineError
from cigocc_ros.runtime.loading import Loading
from cigocc_ros.runtime.tensorrt.options import TensorRtOptions, build_arguments
from cigocc_ros.runtime.tensorrt.progress import progress_from_line

logger = logging.getLogger(__name__)

POLL_S = 0.1
LOG_EVERY_S = 5.0
STOPS_WITHIN_S = 5.0
"""How long a cancelled builder may take: some steps of TensorRT cannot be interrupted."""
SHOWN_LINES = 8


def build_in_process(
    model_dir: Path, options: TensorRtOptions, loading: Loading, device: str = ''
) -> None:
    """Run `cigocc build-engine` and tell its progress to `loading` and to the log.

    `device` is as for `find_gpu`. Raises LoadingCancelled when `loading` is cancelled, EngineError
    with the builder's last words where it fails. The builder ends with this process, however that
    ends.
    """
    words = [sys.executable, '-m', 'cigocc_ros.commands.main']
    words += [*build_arguments(options, model_dir, device), '--progress', 'json']
    try:
        _Builder(words, loading).run()
    finally:
        loading.tell('')


class _Builder:
    """One run of the command; its stdin stays open as long as we live."""

    def __init__(self, words: Sequence[str], loading: Loading) -> None:
        self._words, self._loading = words, loading
        self._last_words: deque[str] = deque(maxlen=SHOWN_LINES)
        self._next_log_s = 0.0

    def run(self) -> None:
        with subprocess.Popen(
            self._words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors='replace',
            env=_environment(),
            start_new_session=True,  # Ctrl-C in the terminal of the node is the node's to handle
        ) as child:
            reader = threading.Thread(target=self._read, args=(child.stdout,), name='build output')
            reader.start()
            try:
                self._await(child)
            finally:
                _end(child)
                reader.join()
        if child.returncode:
            said = ' | '.join(self._last_words) or 'nothing'
            raise EngineError(f'the builder ended with {child.returncode} and said: {said}')

    def _await(self, child: subprocess.Popen[str]) -> None:
        while child.poll() is None:
            self._loading.wait_cancelled(POLL_S)
            self._loading.check()

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            progress = progress_from_line(line)
            if progress is None:
                self._last_words.append(line.strip())
                continue
            self._loading.tell(f'building the TensorRT engine: {progress}')
            if time.monotonic() >= self._next_log_s:
                self._next_log_s = time.monotonic() + LOG_EVERY_S
                logger.info('building the TensorRT engine: %s', progress)


def _end(child: subprocess.Popen[str]) -> None:
    """End the builder if it still runs: politely, then at once; half an engine is never kept."""
    if child.poll() is not None:
        return
    child.send_signal(signal.SIGINT)
    try:
        child.wait(STOPS_WITHIN_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _environment() -> dict[str, str]:
    """Return an environment in which the child finds this package and prints at once."""
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get('PYTHONPATH')]))
    return {**os.environ, 'PYTHONPATH': path, 'PYTHONUNBUFFERED': '1'}
