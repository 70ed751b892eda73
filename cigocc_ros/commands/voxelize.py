"""`cigocc voxelize`: labelled scans and poses -> SemanticKITTI voxel volumes."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cigocc_ros.data.kitti_sequence import KittiSequence

HELP = 'build SemanticKITTI voxel ground truth from labelled scans and poses'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options; the defaults are SemanticKITTI's and live in data.voxelizer."""
    parser.add_argument(
        'sequence', type=Path, help='sequence folder (.../sequences/00), or a root of several'
    )
    parser.add_argument(
        '--out', type=Path, required=True, help='root; writes OUT/sequences/SS/voxels/FFFFFF.*'
    )
    parser.add_argument(
        '--partial',
        action='store_true',
        help='for logs too short for whole volumes: write OUT/SS_FFFFFF.npz, free only where the '
        "sequence's official masks saw it so, unknown where nobody did",
    )
    parser.add_argument(
        '--earlier', type=int, default=0, help='with --partial: earlier scans added too (0)'
    )
    parser.add_argument('--every', type=int, help='every how many frames (5)')
    parser.add_argument('--scans', type=int, help='later scans added to the present one (70)')
    workers = os.cpu_count() or 1
    parser.add_argument('--workers', type=int, default=workers, help='processes')


def run(args: argparse.Namespace) -> int:
    """Voxelise every chosen frame; existing files are replaced."""
    from tqdm import tqdm

    from cigocc_ros.core.errors import ConfigError
    from cigocc_ros.data import voxelizer
    from cigocc_ros.data.kitti_layout import find_sequences
    from cigocc_ros.data.kitti_sequence import KittiSequence

    if args.earlier < 0 or (args.earlier and not args.partial):
        raise ConfigError(f'--earlier takes 0 or more and --partial, found {args.earlier}')
    every = voxelizer.VOXELS_EVERY if args.every is None else args.every
    later = voxelizer.LATER_SCANS if args.scans is None else args.scans
    sequences = [KittiSequence(path) for path in find_sequences(args.sequence)]
    jobs = [(s, voxelizer.frames_to_voxelize(s, every, later)) for s in sequences]
    with tqdm(total=sum(len(frames) for _, frames in jobs), unit='frame') as bar:
        for sequence, frames in jobs:
            bar.set_description(sequence.name)
            for _ in _written(args, sequence, frames, later):
                bar.update()
    print(f'{sum(len(frames) for _, frames in jobs)} frames in {args.out}')
    return 0


def _written(
    args: argparse.Namespace, sequence: KittiSequence, frames: list[str], later: int
) -> Iterator[str]:
    """Write the frames of a sequence in the form asked for; yield each id."""
    from cigocc_ros.data import partial_truth, voxelizer

    if args.partial:
        return partial_truth.write_partial_truth(
            sequence, frames, args.out, later, args.earlier, args.workers
        )
    folder = args.out / 'sequences' / sequence.name / 'voxels'
    return voxelizer.write_voxels(sequence, frames, folder, later, args.workers)
