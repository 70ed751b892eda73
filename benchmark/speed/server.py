"""One engine in a process of its own, which runs a frame whenever its parent writes a line.

    python -m benchmark.speed.server BACKEND MODEL_OR_CHECKPOINT --threads N --staged FILE

Every answer is one JSON line. Engines that shared a process would also share memory and threads.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmark.speed.processes import peak_rss_mb
from cigocc_ros.core.manifest import load_manifest
from cigocc_ros.runtime.contract import Arrays
from cigocc_ros.runtime.engine import TORCH, Engine, create_engine
from cigocc_ros.runtime.random_frames import random_inputs

FRAMES, FRAME_SEED, WARM_UP = 4, 21, 2
RUN, STAGES = 'run', 'stages'


def main() -> int:
    """Load, then answer until stdin ends."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('backend')
    parser.add_argument('model', type=Path)
    parser.add_argument('--threads', type=int, required=True)
    parser.add_argument('--staged', type=Path, required=True)
    args = parser.parse_args()
    started = time.perf_counter()
    engine = _open(args)
    loaded_s = time.perf_counter() - started
    frames = itertools.cycle(random_inputs(_image_size(engine), FRAMES, FRAME_SEED))
    for _ in range(WARM_UP):
        engine.run(next(frames))
    _say({'engine': engine.name, 'load_s': loaded_s})
    for line in sys.stdin:
        command, _, count = line.strip().partition(' ')
        if command == RUN:
            _say(_timed(engine, next(frames)))
        elif command == STAGES:
            _say(_stages(args, engine, frames, int(count)))
    return 0


def _open(args: argparse.Namespace) -> Engine:
    if args.backend == TORCH:
        from cigocc_ros.runtime.torch_engine import load_checkpoint_manifest

        manifest = load_checkpoint_manifest(args.model)
    else:
        manifest = load_manifest(args.model)
    return create_engine(args.backend, args.model, manifest, args.threads)


def _image_size(engine: Engine) -> tuple[int, int]:
    return next((s.shape[1], s.shape[2]) for s in engine.inputs if s.name == 'image')


def _timed(engine: Engine, arrays: Arrays) -> dict[str, Any]:
    started, cpu_started = time.perf_counter(), time.process_time()
    engine.run(arrays)
    wall, cpu = time.perf_counter() - started, time.process_time() - cpu_started
    return {'ms': 1e3 * wall, 'cpu_ms': 1e3 * cpu, 'peak_rss_mb': peak_rss_mb('self')}


def _stages(
    args: argparse.Namespace, engine: Engine, frames: Iterator[Arrays], count: int
) -> dict[str, float]:
    """Return milliseconds of a frame per stage."""
    from benchmark.speed import stages

    profilers: dict[str, Callable[[], dict[str, float]]] = {
        'onnxruntime': lambda: stages.of_onnxruntime(args.staged, args.threads, frames, count),
        'openvino': lambda: stages.of_openvino(args.staged, args.threads, frames, count),
        TORCH: lambda: stages.of_torch(args.model, frames, count),
    }
    return profilers[args.backend]()


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + '\n')
    sys.stdout.flush()


if __name__ == '__main__':
    sys.exit(main())
