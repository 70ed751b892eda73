"""What each rewrite of `export.cpu_rewrites` saves on this CPU, beside PyTorch and OpenVINO.

    python benchmark/graph_rewrites.py [--config mid] [--rounds 8] [--peers torch openvino]

Exports a config with random weights, runs it without rewrites, with all, and with all but one, in
turn, and prints the processor time of a frame (threads of other programs count little in it), how
many times as long eager PyTorch takes, and the share of labels that are those of the file without
rewrites.
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
import torch

from cigocc_ros.core.agreement import equal_share
from cigocc_ros.core.config import load_model_config
from cigocc_ros.core.manifest import LABELS
from cigocc_ros.core.markdown import table
from cigocc_ros.export.cpu_rewrites import REWRITES, rewrite_for_cpu
from cigocc_ros.export.to_onnx import input_names, to_onnx, without_logits
from cigocc_ros.model.build import build_model
from cigocc_ros.model.cigocc import CigOcc
from cigocc_ros.model.output import ExportModel
from cigocc_ros.runtime.contract import Arrays
from cigocc_ros.runtime.onnxruntime_engine import open_session
from cigocc_ros.runtime.random_frames import random_inputs

Run = Callable[[Arrays], np.ndarray]
SEED = 5
PLAIN, ALL, EAGER = 'no rewrite', 'all', 'PyTorch, eager'


def main() -> None:
    """Time every variant in turn, round after round, and print a table."""
    parser = argparse.ArgumentParser(description='Time the graph rewrites for CPUs.')
    parser.add_argument('--config', default='mid')
    parser.add_argument('--rounds', type=int, default=8)
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--peers', nargs='*', choices=('torch', 'openvino'), default=['torch'])
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(SEED)
    model = build_model(load_model_config(args.config)).eval()
    config = model.config
    (arrays,) = random_inputs(config.image_size, 1, SEED, config.semantic_prior)
    runs = all_runs(model, arrays, args.threads, args.peers)
    expected = runs[PLAIN](arrays)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(args.rounds + 1):  # the first one warms up
        for name, run in runs.items():
            times[name].append(processor_time(run, arrays))
    rows, reference = [], EAGER if EAGER in runs else PLAIN
    for name, run in runs.items():
        best, median = min(times[name][1:]), float(np.median(times[name][1:]))
        ratio = float(np.median(times[reference][1:])) / median
        equal = f'{100 * equal_share(run(arrays), expected):.3f} %'
        rows.append((name, f'{1e3 * best:.0f}', f'{1e3 * median:.0f}', f'{ratio:.2f}x', equal))
    titles = (
        f'{args.config}, {args.threads} threads',
        'best ms',
        'median ms',
        f'{reference} takes',
        'equal',
    )
    print('\n'.join(table(titles, rows, left=1)))


def all_runs(model: CigOcc, arrays: Arrays, threads: int, peers: list[str]) -> dict[str, Run]:
    """Return name -> labels of a frame, of every variant and peer."""
    graph = without_logits(to_onnx(model, arrays))
    variants: dict[str, set[str]] = {PLAIN: set(), ALL: set(REWRITES)}
    variants |= {f'all but {name}': set(REWRITES) - {name} for name in REWRITES}
    runs: dict[str, Run] = {}
    with TemporaryDirectory() as folder:
        path = Path(folder) / 'model.onnx'
        for name, chosen in variants.items():
            onnx.save_model(rewrite_for_cpu(graph, chosen), path)
            runs[name] = onnxruntime(path, threads)
            if name in (PLAIN, ALL) and 'openvino' in peers:
                runs[f'openvino, {name}'] = openvino(path, threads)
    return runs | ({EAGER: eager(model)} if 'torch' in peers else {})


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


def eager(model: CigOcc) -> Run:
    """Return labels of the network itself."""
    whole = ExportModel(model)

    def run(arrays: Arrays) -> np.ndarray:
        with torch.inference_mode():
            labels = whole(*(torch.from_numpy(arrays[n].copy()) for n in input_names(arrays)))[0]
        return np.asarray(labels)

    return run


def processor_time(run: Run, arrays: Arrays) -> float:
    """Return the processor time of a frame, seconds."""
    start = time.process_time()
    run(arrays)
    return time.process_time() - start


if __name__ == '__main__':
    main()
