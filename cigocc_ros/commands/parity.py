"""`cigocc parity`: do two ways of running a network give the same voxels, and how fast?"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np

from cigocc_ros.commands.arguments import add_prior_argument, add_threads_argument
from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.manifest import ModelManifest
from cigocc_ros.data.camera_frames import DataFrames, evenly
from cigocc_ros.data.stereo_config import trained_stereo
from cigocc_ros.evaluation.compare import ComparedFrames, Comparison, compare
from cigocc_ros.evaluation.compare_report import comparison_markdown, write_comparison
from cigocc_ros.runtime.random_frames import random_frame

HELP = 'compare backends, model folders or ONNX files of one model: labels, IoU, latency'
DEFAULT_FRAMES = 8
SEED = 2025
EXIT_DISAGREE = 1


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
    add_threads_argument(parser)
    parser.add_argument('--out', type=Path, help='folder of parity.json and parity.md')
    parser.add_argument(
        '--require',
        type=float,
        metavar='SHARE',
        help='exit with 1 where fewer labels of the worst frame agree, e.g. 0.995',
    )


def run(args: argparse.Namespace) -> int:
    """Compare, print the Markdown report, write both reports to --out; return 0 or 1."""
    from tqdm import tqdm

    from cigocc_ros.export.open_engine import open_engine

    if len(args.subjects) < 2:
        raise ConfigError(f'expected a reference and at least one other, found {args.subjects}')
    with ExitStack() as stack:
        engines = [
            stack.enter_context(closing(open_engine(text, args.threads))) for text in args.subjects
        ]
        frames = _frames(args, engines[0].manifest)
        watched = tqdm(frames.frames, unit='frame', disable=None)
        compared = ComparedFrames(watched, frames.text, frames.depth_prior)
        comparison = compare(engines, compared, _machine_text(args.threads))
    print(comparison_markdown(comparison))
    if args.out is not None:
        for path in write_comparison(args.out, comparison):
            print(path)
    return 0 if args.require is None else _judge(comparison, args.require)


def _frames(args: argparse.Namespace, reference: ModelManifest) -> ComparedFrames:
    """Return what all networks are run on; stereo is matched as the reference was trained."""
    if args.data is None:
        return _random_frames(args.frames)
    return _data_frames(args, reference)


def _random_frames(count: int) -> ComparedFrames:
    """Return generated frames, each of another camera; every second one has a depth prior."""
    rng = np.random.default_rng(SEED)
    frames = (random_frame(rng, index) for index in range(count))
    return ComparedFrames(frames, f'{count} of random cameras, seed {SEED}', 'every second frame')


def _data_frames(args: argparse.Namespace, reference: ModelManifest) -> ComparedFrames:
    """Return frames of all sequences of the data, evenly spread."""
    data = DataFrames(args.data, args.prior, trained_stereo(reference.training))
    chosen = evenly(len(data), args.frames)
    return ComparedFrames(
        (data[index] for index in chosen),
        f'{len(chosen)} of {len(data)} in {args.data.name} ({len(data.sequences)} sequences)',
        ', '.join(sorted(set(data.priors))),
    )


def _machine_text(threads: int) -> str:
    """Say what the latencies were measured on."""
    used = f'{threads} threads' if threads else 'every core'
    return (
        f'{platform.machine()}, {os.cpu_count()} CPUs, {used}, Python {platform.python_version()}'
    )


def _judge(comparison: Comparison, share: float) -> int:
    """Return EXIT_DISAGREE, and say so, where a candidate agrees less than `share`; else 0."""
    failed = comparison.below(share)
    for name, found in failed.items():
        print(f'{name}: {found:.5f} of the labels agree, {share} required', file=sys.stderr)
    return EXIT_DISAGREE if failed else 0
