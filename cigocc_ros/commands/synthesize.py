"""`cigocc synthesize`: write procedural street sequences in the SemanticKITTI layout."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

from cigocc_ros.core.errors import ConfigError

HELP = 'write synthetic street sequences (images, depth, lidar, voxels)'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument('out', type=Path, help='dataset root; sequences/NN are written below it')
    parser.add_argument('--sequences', type=int, default=1, help='number of streets')
    parser.add_argument('--frames', type=int, default=20, help='frames per sequence')
    parser.add_argument('--width', type=int, default=1241, help='image width in pixels')
    parser.add_argument('--step-m', type=float, default=1.0, help='metres between frames')
    parser.add_argument('--seed', type=int, default=0, help='seed of the first sequence')
    workers = os.cpu_count() or 1
    parser.add_argument('--workers', type=int, default=workers, help='processes')


def run(args: argparse.Namespace) -> int:
    """Generate; the result depends on the seeds alone."""
    from cigocc_ros.data.synthetic.drive import SequenceSettings
    from cigocc_ros.data.synthetic.sequence import (
        write_sequence,
        write_sequences,
    )

    if args.sequences < 1 or args.workers < 1:
        raise ConfigError(
            'expected --sequences and --workers of at least 1, '
            f'found {args.sequences} and {args.workers}'
        )
    settings = SequenceSettings(args.frames, args.width, args.step_m, args.seed)
    digits = max(2, len(str(args.sequences - 1)))
    seeds = {f'{i:0{digits}d}': args.seed + i for i in range(args.sequences)}
    if len(seeds) == 1:
        (name,) = seeds
        frames = write_sequence(args.out / 'sequences' / name, settings)
        _show(frames, args.frames, 'frames')
    else:
        _show(write_sequences(args.out, seeds, settings, args.workers), len(seeds), 'sequences')
    print(f'{len(seeds)} sequences of {args.frames} frames in {args.out}/sequences')
    return 0


def _show(steps: Iterator[str], total: int, name: str) -> None:
    """Run the steps behind a progress bar."""
    from tqdm import tqdm

    for _ in tqdm(steps, total=total, desc=name):
        pass
