"""`cigocc synthesize`: write procedural street sequences in the SemanticKITTI layout."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

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
    from tqdm import tqdm

    from cigocc_ros.data.synthetic.sequence import SequenceSettings, write_sequences

    settings = SequenceSettings(args.frames, args.width, args.step_m, args.seed)
    digits = max(2, len(str(args.sequences - 1)))
    seeds = {f'{i:0{digits}d}': args.seed + i for i in range(args.sequences)}
    done = write_sequences(args.out, seeds, settings, args.workers)
    for _ in tqdm(done, total=len(seeds), desc='sequences', unit='seq'):
        pass
    print(f'{len(seeds)} sequences of {args.frames} frames in {args.out}/sequences')
    return 0
