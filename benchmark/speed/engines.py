"""The engine alone: every backend on every config, frame by frame in turn."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmark.speed.measure import summary
from benchmark.speed.server import RUN, STAGES
from benchmark.speed.subjects import Network, prepare
from cigocc_ros.core.errors import EngineError
from cigocc_ros.runtime.engine import ONNXRUNTIME, OPENVINO, TORCH

logger = logging.getLogger(__name__)
SERVER = 'benchmark.speed.server'
STAGE_RUNS = 5
REPOSITORY = Path(__file__).resolve().parents[2]
ENDS_WITHIN_S = 10.0


class EngineProcess:
    """A server of one engine, ended with its `with` block."""

    def __init__(self, backend: str, network: Network, threads: int) -> None:
        """Start to load."""
        folder = network.checkpoint_dir if backend == TORCH else network.model_dir
        words = [sys.executable, '-m', SERVER, backend, str(folder), f'--threads={threads}']
        self._process = subprocess.Popen(
            [*words, f'--staged={network.staged_file}'],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, 'PYTHONPATH': _python_path()},
        )

    def __enter__(self) -> EngineProcess:
        """Wait until it is loaded and warm."""
        self.ready = self.answer()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def ask(self, command: str) -> dict[str, Any]:
        """Return the answer to a command."""
        assert self._process.stdin is not None
        self._process.stdin.write(f'{command}\n')
        self._process.stdin.flush()
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """Return the next line; raise EngineError where the process has ended."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise EngineError(f'{self._process.args!r} ended: its message is above')
        found: dict[str, Any] = json.loads(line)
        return found


def backends() -> list[str]:
    """Return what is installed of the backends for CPUs."""
    optional = [name for name in (OPENVINO, TORCH) if importlib.util.find_spec(name)]
    return [ONNXRUNTIME, *optional]


def run_engines(
    configs: list[str], folder: Path, threads: int, rounds: int
) -> dict[str, dict[str, Any]]:
    """Return results per config and backend."""
    results = {}
    for config in configs:
        logger.info('engines: preparing %s', config)
        results[config] = _run_config(prepare(config, folder), threads, rounds)
    return results


def _run_config(network: Network, threads: int, rounds: int) -> dict[str, Any]:
    with ExitStack() as stack:
        engines = {
            name: stack.enter_context(EngineProcess(name, network, threads)) for name in backends()
        }
        logger.info('engines: %s, %d rounds', network.config, rounds)
        turns: dict[str, list[dict[str, Any]]] = {name: [] for name in engines}
        for _ in range(rounds):
            for name, engine in engines.items():
                turns[name].append(engine.ask(RUN))
        return {
            'shipped': network.shipped,
            'backends': {
                name: _result(engine, turns[name], min(STAGE_RUNS, rounds))
                for name, engine in engines.items()
            },
        }


def _result(engine: EngineProcess, turns: list[dict[str, Any]], runs: int) -> dict[str, Any]:
    cpu_ms = sorted(turn['cpu_ms'] for turn in turns)
    return {
        **summary([turn['ms'] for turn in turns]),
        'name': engine.ready['engine'],
        'load_s': round(engine.ready['load_s'], 2),
        'cpu_ms': round(cpu_ms[len(cpu_ms) // 2], 1),
        'peak_rss_mb': turns[-1]['peak_rss_mb'],
        'stages_ms': {name: round(ms, 3) for name, ms in engine.ask(f'{STAGES} {runs}').items()},
    }


def _python_path() -> str:
    """Return this source tree, then what was said of it: not what libraries add to sys.path.

    onnxruntime.quantization adds a folder that has a benchmark.py of its own.
    """
    given = os.environ.get('PYTHONPATH')
    return os.pathsep.join(filter(None, [str(REPOSITORY), given]))
