"""How the time of a frame divides between the parts of the network, as each runtime tells it."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmark.speed.measure import OTHER, STAGE
from cigocc_ros.runtime.contract import Arrays

Milliseconds = dict[str, float]


def of_onnxruntime(file: Path, threads: int, frames: Iterator[Arrays], count: int) -> Milliseconds:
    """Profile a file whose names begin with stages; what the runtime adds counts to its place."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry('session.intra_op.allow_spinning', '0')
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(file), options, providers=['CPUExecutionProvider'])
    session.run(None, next(frames))
    with tempfile.TemporaryDirectory() as folder:
        options.enable_profiling = True
        options.profile_file_prefix = os.path.join(folder, 'profile')
        session = onnxruntime.InferenceSession(
            str(file), options, providers=['CPUExecutionProvider']
        )
        for _ in range(count):
            session.run(None, next(frames))
        events = json.loads(Path(session.end_profiling()).read_text())
    kernels = [event for event in events if event['name'].endswith('_kernel_time')]
    kernels.sort(key=lambda event: event['ts'])
    named = [(event['name'], 1e-3 * event['dur']) for event in kernels]
    return _by_stage(named, count)


def of_openvino(file: Path, threads: int, frames: Iterator[Arrays], count: int) -> Milliseconds:
    """Sum the counters of OpenVINO."""
    import openvino

    options = {
        'INFERENCE_PRECISION_HINT': 'f32',
        'INFERENCE_NUM_THREADS': threads,
        'PERFORMANCE_HINT': 'LATENCY',
        'PERF_COUNT': True,
    }
    request = openvino.Core().compile_model(str(file), 'CPU', options).create_infer_request()
    named = []
    for _ in range(count):
        request.infer(next(frames))
        named += [
            (info.node_name, 1e3 * info.real_time.total_seconds())
            for info in request.get_profiling_info()
        ]
    return _by_stage(named, count)


def of_torch(checkpoint: Path, frames: Iterator[Arrays], count: int) -> Milliseconds:
    """Time the modules of the network as they are called."""
    import torch

    from cigocc_ros.export.to_onnx import INPUT_NAMES
    from cigocc_ros.model.build import load_checkpoint
    from cigocc_ros.model.output import ExportModel

    model = load_checkpoint(checkpoint)
    spent: dict[str, float] = defaultdict(float)
    begun: dict[str, float] = {}
    for name, part in model.named_children():
        part.register_forward_pre_hook(_begin(begun, name))
        part.register_forward_hook(_end(begun, spent, name))
    whole, started = ExportModel(model), 0.0
    with torch.inference_mode():
        for turn in range(count + 1):
            if turn == 1:  # the first one warmed up
                spent.clear()
                started = time.perf_counter()
            arrays = next(frames)
            whole(*(torch.from_numpy(arrays[name].copy()) for name in INPUT_NAMES))
    total = time.perf_counter() - started
    spent[OTHER] = total - sum(spent.values())
    return {name: 1e3 * seconds / count for name, seconds in spent.items()}


def _begin(begun: dict[str, float], name: str) -> Any:
    def begin(*_: Any) -> None:
        begun[name] = time.perf_counter()

    return begin


def _end(begun: dict[str, float], spent: dict[str, float], name: str) -> Any:
    def end(*_: Any) -> None:
        spent[name] += time.perf_counter() - begun[name]

    return end


def _by_stage(named: list[tuple[str, float]], count: int) -> Milliseconds:
    """Sum in the order of execution; a name without a stage goes to the stage before it."""
    spent: dict[str, float] = defaultdict(float)
    stage = OTHER
    for name, milliseconds in named:
        found = STAGE.search(name)
        stage = found[1] if found else stage
        spent[stage] += milliseconds / count
    return dict(spent)
