"""Time the predictor on the frames of a sequence, without ROS, against PyTorch in the same run.

    python benchmark/engine_latency.py SEQUENCE [--model mid] [--runs 20] [--threads 2]
                                       [--checkpoint RUN/best]

Prints a Markdown table of medians and 95th percentiles. With --checkpoint, frames go through ONNX
Runtime and eager PyTorch in turn and the ratio of the medians is printed too.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from pathlib import Path

import numpy as np

from cigocc_ros.core.markdown import table
from cigocc_ros.core.prior import AUTO
from cigocc_ros.data.camera_frames import sequence_frame, sequence_prior
from cigocc_ros.data.kitti_sequence import KittiSequence
from cigocc_ros.runtime.engine import ONNXRUNTIME, TORCH
from cigocc_ros.runtime.predictor import Predictor

STEPS = ('preprocess_ms', 'engine_ms', 'postprocess_ms', 'total_ms')


def measure(predictors: list[Predictor], sequence: KittiSequence, runs: int) -> list[np.ndarray]:
    """Return (runs, 4) milliseconds per predictor; the predictors take turns frame by frame."""
    prior = sequence_prior(sequence, AUTO)
    frames = [sequence_frame(sequence, f, prior) for f in list(sequence.frame_ids)[:runs]]
    times: list[list[list[float]]] = [[] for _ in predictors]
    for predictor in predictors:
        predictor(frames[0])
    for run in range(runs):
        for predictor, rows in zip(predictors, times, strict=True):
            predictor(frames[run % len(frames)])
            rows.append([getattr(predictor.timing, step) for step in STEPS])
    return [np.array(rows) for rows in times]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('sequence', type=Path)
    parser.add_argument('--model', default='mid')
    parser.add_argument('--checkpoint', type=Path, help='the same weights for PyTorch')
    parser.add_argument('--runs', type=int, default=20)
    parser.add_argument('--threads', type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    predictors = [Predictor.from_model_dir(args.model, ONNXRUNTIME, args.threads)]
    if args.checkpoint:
        predictors.append(Predictor.from_model_dir(args.checkpoint, TORCH, args.threads))
    results = measure(predictors, KittiSequence(args.sequence), args.runs)
    machine = f'{platform.machine()}, {args.threads} threads of {os.cpu_count()}'
    print(f'{machine}, fp32, {args.runs} runs\n')
    cells = []
    for predictor, rows in zip(predictors, results, strict=True):
        for column, step in enumerate(STEPS):
            median, p95 = np.percentile(rows[:, column], [50, 95])
            cells.append((predictor.engine.name, step[:-3], f'{median:.1f}', f'{p95:.1f}'))
    print('\n'.join(table(('engine', 'step', 'median ms', 'p95 ms'), cells, left=2)))
    if len(results) == 2:
        ratio = np.median(results[1][:, 1]) / np.median(results[0][:, 1])
        print(f'\nPyTorch eager / ONNX Runtime, engine medians: {ratio:.2f}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
