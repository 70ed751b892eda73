"""`cigocc build-engine`: compile a model for the GPU of this machine."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cigocc_ros.core.installed import DEFAULT_MODEL
from cigocc_ros.core.manifest import load_manifest
from cigocc_ros.core.options import add_options, options_from
from cigocc_ros.runtime.devices import gpu_name
from cigocc_ros.runtime.loading import Loading, LoadingCancelled
from cigocc_ros.runtime.predictor import find_model_dir
from cigocc_ros.runtime.tensorrt.options import TensorRtOptions, build_options
from cigocc_ros.runtime.tensorrt.progress import BuildProgress

if TYPE_CHECKING:
    from cigocc_ros.runtime.tensorrt.builder import BuildResult

HELP = 'compile a model with TensorRT for the GPU of this machine'
EXIT_CANCELLED = 130
LINE_EVERY_S = 5.0
TERMINAL_EVERY_S = 0.2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        '--model', default=DEFAULT_MODEL, help='shipped model or folder (default %(default)s)'
    )
    parser.add_argument(
        '--device',
        default='',
        help='GPU to build for: its number as nvidia-smi lists it, or its UUID (default: the '
        'first; node: device)',
    )
    add_options(parser, build_options())
    parser.add_argument('--force', action='store_true', help='build even where an engine fits')
    parser.add_argument(
        '--inspect',
        action='store_true',
        help='instead of an engine to keep, build one in memory and show its layers with their '
        'types and times',
    )
    parser.add_argument(
        '--progress',
        choices=('text', 'json'),
        default='text',
        help='json: one object a line, for a parent that cancels by closing stdin',
    )


def run(args: argparse.Namespace) -> int:
    """Build, or find, the engine; return 0. SIGINT and SIGTERM cancel."""
    from cigocc_ros.runtime.tensorrt.builder import build_engine
    from cigocc_ros.runtime.tensorrt.inspection import inspect_engine

    options = options_from(TensorRtOptions, args)
    model_dir = find_model_dir(args.model)
    manifest = load_manifest(model_dir)
    loading, show = Loading(), _ProgressPrinter(args.progress == 'json')
    device = gpu_name(args.device)
    try:
        with _cancelling(loading, args.progress == 'json'):
            if args.inspect:
                found, path = inspect_engine(model_dir, manifest, options, show, loading, device)
                text = '\n'.join([*found.lines(), '', str(path)])
            else:
                result = build_engine(
                    model_dir, manifest, options, show, loading, args.force, device
                )
                text = _described(result)
    except LoadingCancelled:
        print('cigocc build-engine: cancelled, nothing was written', file=sys.stderr)
        return EXIT_CANCELLED
    finally:
        show.end()
    if args.progress == 'text':
        print(text)
    return 0


def _described(result: BuildResult) -> str:
    sidecar = result.sidecar
    what = f'built in {sidecar.build_s:.0f} s' if result.built else 'is up to date'
    return (
        f'{result.path} {what}: {sidecar.engine_bytes / 1e6:.1f} MB, {sidecar.layers} layers, '
        f'{sidecar.plugins} of {sidecar.samplings} plugins, '
        f'{sidecar.key.precision}, {sidecar.key.library} {sidecar.key.library_version}, '
        f'GPU {sidecar.key.gpu}'
    )


class _ProgressPrinter:
    """Print progress, not more often than somebody can read."""

    def __init__(self, as_json: bool) -> None:
        self._json = as_json
        self._rewrites = not as_json and sys.stdout.isatty()
        self._next_s = 0.0
        self._lock = threading.Lock()

    def __call__(self, progress: BuildProgress) -> None:
        with self._lock:
            now = time.monotonic()
            if now < self._next_s:
                return
            often = self._json or self._rewrites
            self._next_s = now + (TERMINAL_EVERY_S if often else LINE_EVERY_S)
            if self._json:
                print(progress.to_line(), flush=True)
            elif self._rewrites:
                print(f'\r\033[Kbuilding: {progress}', end='', flush=True)
            else:
                print(f'building: {progress}', flush=True)

    def end(self) -> None:
        """Clear the line that was rewritten."""
        if self._rewrites:
            print('\r\033[K', end='', flush=True)


@contextmanager
def _cancelling(loading: Loading, watch_stdin: bool) -> Iterator[None]:
    """Cancel on SIGINT and SIGTERM, and at the end of stdin: then the parent is gone."""

    signals: list[int] = []

    def cancel(number: int, _: Any) -> None:
        signals.append(number)
        if len(signals) > 1:
            os._exit(EXIT_CANCELLED)  # asked twice: some steps of TensorRT take minutes
        loading.cancel()

    before = {number: signal.signal(number, cancel) for number in (signal.SIGINT, signal.SIGTERM)}
    if watch_stdin:
        threading.Thread(target=_await_end_of_stdin, args=(loading.cancel,), daemon=True).start()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _await_end_of_stdin(then: Callable[[], None]) -> None:
    # Not through sys.stdin: a thread in its lock would disturb the end of the interpreter.
    while os.read(sys.stdin.fileno(), 1024):
        pass
    then()
