"""`cigocc parity`: do two ways of running a network give the same voxels, and how fast?"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cigocc_ros.commands.infer import add_prior_argument
from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.frames import CameraFrame
from cigocc_ros.core.installed import code_commit
from cigocc_ros.core.manifest import LABELS, OCCUPIED_PROBABILITY
from cigocc_ros.data.camera_frames import sequence_frame, sequence_prior
from cigocc_ros.evaluation.agreement import AgreementCounter
from cigocc_ros.evaluation.agreement_report import (
    ComparedEngine,
    Comparison,
    comparison_markdown,
    write_comparison,
)
from cigocc_ros.runtime.contract import DEFAULT_THREADS, Arrays
from cigocc_ros.runtime.preprocess import Preprocessor
from cigocc_ros.runtime.random_frames import random_frame

if TYPE_CHECKING:
    from cigocc_ros.export.open_engine import Subject

HELP = 'compare backends, model folders or ONNX files of one model: labels, IoU, latency'
DEFAULT_FRAMES = 8
SEED = 2025
EXIT_DISAGREE = 1


@dataclass(frozen=True)
class Frames:
    """The frames of a comparison and what the report says of them."""

    frames: Iterator[CameraFrame]
    text: str
    depth_prior: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        'subjects',
        nargs='+',
        metavar='BACKEND:MODEL',
        help='the reference, then what is compared with it. Backends: onnxruntime, openvino, '
        'tensorrt, torch (MODEL is a checkpoint) and rounded (the mixed float16 file with its '
        'rounding done on a CPU). MODEL: shipped name, folder, or one .onnx file in a folder',
    )
    parser.add_argument(
        '--data',
        type=Path,
        help='KITTI sequence folder or data set root; without it, frames of random cameras',
    )
    parser.add_argument(
        '--frames',
        type=int,
        default=DEFAULT_FRAMES,
        help='how many, evenly spread over the data (default %(default)s)',
    )
    add_prior_argument(parser)
    parser.add_argument(
        '--threads', type=int, default=DEFAULT_THREADS, help='0 (default): every core'
    )
    parser.add_argument('--out', type=Path, help='folder of parity.json and parity.md')
    parser.add_argument(
        '--require',
        type=float,
        metavar='SHARE',
        help='exit with 1 where fewer labels of the worst frame agree, e.g. 0.995',
    )


def run(args: argparse.Namespace) -> int:
    """Compare, print the Markdown report, write both reports to --out; return 0 or 1."""
    from cigocc_ros.export.open_engine import open_subject

    if len(args.subjects) < 2:
        raise ConfigError(f'expected a reference and at least one other, found {args.subjects}')
    frames = random_frames(args.frames) if args.data is None else data_frames(args)
    with ExitStack() as stack:
        subjects = [open_subject(text, args.threads) for text in args.subjects]
        for subject in subjects:
            stack.enter_context(closing(subject.engine))
        comparison = compare(subjects, frames, machine_text(args.threads))
    print(comparison_markdown(comparison))
    if args.out is not None:
        for path in write_comparison(args.out, comparison):
            print(path)
    return require(comparison, args.require)


def compare(subjects: Sequence[Subject], frames: Frames, machine: str) -> Comparison:
    """Run every subject on every frame in turn; the first subject is the reference.

    Raises ConfigError where their grids differ.
    """
    from tqdm import tqdm

    grids = {subject.manifest.voxel_grid for subject in subjects}
    if len(grids) > 1:
        raise ConfigError(f'the subjects must share a voxel grid, found {grids}')
    preprocess = [Preprocessor(subject.manifest.image_size) for subject in subjects]
    counters = [AgreementCounter() for _ in subjects[1:]]
    latencies: list[list[float]] = [[] for _ in subjects]
    for number, frame in enumerate(tqdm(frames.frames, unit='frame', disable=None)):
        inputs = [prepare(frame) for prepare in preprocess]
        if number == 0:
            for subject, arrays in zip(subjects, inputs, strict=True):
                subject.engine.run(arrays)  # the first run allocates
        reference, *others = [
            timed(subject, arrays, times)
            for subject, arrays, times in zip(subjects, inputs, latencies, strict=True)
        ]
        for counter, outputs in zip(counters, others, strict=True):
            counter.update(reference, outputs)
    engines = [described(*pair) for pair in zip(subjects, latencies, strict=True)]
    return Comparison(
        reference=engines[0],
        candidates=tuple(engines[1:]),
        scores=tuple(counter.compute() for counter in counters),
        frames=frames.text,
        depth_prior=frames.depth_prior,
        machine=machine,
        code_commit=code_commit(),
    )


def timed(
    subject: Subject, arrays: Arrays, times_ms: list[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and occupied probability, and note how long the engine took."""
    started = time.perf_counter()
    outputs = subject.engine.run(arrays)
    times_ms.append(1e3 * (time.perf_counter() - started))
    return outputs[LABELS], outputs[OCCUPIED_PROBABILITY]


def described(subject: Subject, latencies_ms: list[float]) -> ComparedEngine:
    """Return what the report says of a subject."""
    return ComparedEngine(
        name=subject.text,
        engine=subject.engine.name,
        model=subject.manifest.model_id,
        file=subject.file,
        sha256=subject.sha256,
        latency_ms=tuple(latencies_ms),
    )


def random_frames(count: int) -> Frames:
    """Return generated frames, each of another camera; every second one has a depth prior."""
    rng = np.random.default_rng(SEED)
    frames = (random_frame(rng, index) for index in range(count))
    return Frames(frames, f'{count} of random cameras, seed {SEED}', 'every second frame')


def data_frames(args: argparse.Namespace) -> Frames:
    """Return frames of all sequences of the data, evenly spread."""
    from cigocc_ros.data.kitti_sequence import KittiSequence, find_sequences  # needs OpenCV

    sequences = [KittiSequence(folder) for folder in find_sequences(args.data)]
    priors = {sequence.name: sequence_prior(sequence, args.prior) for sequence in sequences}
    keys = [(sequence, frame_id) for sequence in sequences for frame_id in sequence.frame_ids]
    chosen = evenly(len(keys), args.frames)
    return Frames(
        (sequence_frame(*keys[index], priors[keys[index][0].name]) for index in chosen),
        f'{len(chosen)} of {len(keys)} in {args.data.name} ({len(sequences)} sequences)',
        ', '.join(sorted(set(priors.values()))),
    )


def evenly(total: int, count: int) -> list[int]:
    """Return at most `count` different indices below `total`, evenly spread, 0 among them."""
    if count < 1:
        raise ConfigError(f'--frames: expected at least 1, found {count}')
    return sorted({index * total // count for index in range(min(count, total))} if total else [])


def machine_text(threads: int) -> str:
    """Say what the latencies were measured on."""
    used = f'{threads} threads' if threads else 'every core'
    return (
        f'{platform.machine()}, {os.cpu_count()} CPUs, {used}, Python {platform.python_version()}'
    )


def require(comparison: Comparison, share: float | None) -> int:
    """Return EXIT_DISAGREE, and say so, where a candidate agrees less than `share`; else 0."""
    if share is None:
        return 0
    worst = {
        candidate.name: scores.labels_worst_frame
        for candidate, scores in zip(comparison.candidates, comparison.scores, strict=True)
    }
    failed = {name: found for name, found in worst.items() if found < share}
    for name, found in failed.items():
        print(f'{name}: {found:.5f} of the labels agree, {share} required', file=sys.stderr)
    return EXIT_DISAGREE if failed else 0
