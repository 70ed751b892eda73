"""What each rewrite of `export.cpu_rewrites` saves on this CPU.

    python benchmark/graph_rewrites.py plain.onnx [--openvino]

Takes a float32 file without them, and prints the processor time of a frame for each rewrite alone
and for all, and the share of equal labels.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx

from cigocc_ros.core.agreement import equal_share
from cigocc_ros.core.manifest import LABELS
from cigocc_ros.export.cpu_layouts import flatten_additions, split_transposes, static_shapes
from cigocc_ros.export.cpu_rewrites import fold_divisions, slice_convolutions
from cigocc_ros.runtime.contract import Arrays
from cigocc_ros.runtime.onnxruntime_engine import open_session
from cigocc_ros.runtime.random_frames import random_inputs

Run = Callable[[Arrays], np.ndarray]
Rewrite = Callable[[onnx.GraphProto], int]
SEED = 5


def main() -> None:
    """Time every variant in turn, round after round, and print the best time of each."""
    parser = argparse.ArgumentParser(description='Time the graph rewrites for CPUs.')
    parser.add_argument('model', type=Path, help='float32 ONNX file without the rewrites')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--openvino', action='store_true', help='time OpenVINO instead')
    args = parser.parse_args()
    start = openvino if args.openvino else onnxruntime
    with TemporaryDirectory() as folder:
        runs = {
            name: start(path, args.threads)
            for name, path in variants(onnx.load(args.model), Path(folder)).items()
        }
    size = tuple(onnx.load(args.model).graph.input[0].type.tensor_type.shape.dim)
    (arrays,) = random_inputs((size[1].dim_value, size[2].dim_value), 1, SEED)
    expected = runs['plain'](arrays)
    best = {name: best_time(run, arrays, 1) for name, run in runs.items()}
    for _ in range(args.rounds):
        for name, run in runs.items():
            best[name] = min(best[name], best_time(run, arrays, 1))
    for name, run in runs.items():
        equal = 100 * equal_share(run(arrays), expected)
        ratio = best['plain'] / best[name]
        print(f'{name:12} {1e3 * best[name]:8.1f} ms  {ratio:5.2f}x  labels equal {equal:.4f} %')


def variants(model: onnx.ModelProto, folder: Path) -> dict[str, Path]:
    """Write the plain model, each rewrite alone and all; return name -> file."""
    shapes = static_shapes(model)
    rewrites: dict[str, Rewrite] = {
        'divisions': fold_divisions,
        'additions': lambda graph: flatten_additions(graph, shapes),
        'transposes': lambda graph: split_transposes(graph, shapes),
        'slices': lambda graph: slice_convolutions(graph, shapes),
    }
    steps = {'plain': {}, **{name: {name: one} for name, one in rewrites.items()}, 'all': rewrites}
    steps['additions'] = {name: rewrites[name] for name in ('divisions', 'additions')}
    paths = {}
    for name, chosen in steps.items():
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        for kind, rewrite in chosen.items():
            print(f'{name}: {kind} {rewrite(copy.graph)} times')
        paths[name] = folder / f'{name}.onnx'
        onnx.save_model(copy, paths[name])
    return paths


def onnxruntime(path: Path, threads: int) -> Run:
    """Return labels of ONNX Runtime, as the node runs it."""
    session = open_session(path, threads)
    return lambda arrays: session.run([LABELS], arrays)[0]


def openvino(path: Path, threads: int) -> Run:
    """Return labels of OpenVINO in float32."""
    import openvino

    options = {'INFERENCE_NUM_THREADS': threads, 'INFERENCE_PRECISION_HINT': 'f32'}
    compiled: Any = openvino.Core().compile_model(str(path), 'CPU', options)
    return lambda arrays: compiled(arrays)[LABELS]


def best_time(run: Run, arrays: Arrays, count: int) -> float:
    """Return the least processor time of `count` runs, seconds."""
    times = []
    for _ in range(count):
        start = time.process_time()
        run(arrays)
        times.append(time.process_time() - start)
    return min(times)


if __name__ == '__main__':
    main()
