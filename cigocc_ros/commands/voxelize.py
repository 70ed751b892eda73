"""`cigocc voxelize`: labelled scans and poses -> SemanticKITTI voxel volumes."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

HELP = 'build SemanticKITTI voxel ground truth from labelled scans and poses'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options; the defaults are SemanticKITTI's and live in data.voxelizer."""
    parser.add_argument(
        'sequence', type=Path, help='sequence folder (.../sequences/00), or a root of several'
    )
    parser.add_argument(
        '--out', type=Path, required=True, help='root; writes OUT/sequences/SS/voxels/FFFFFF.*'
    )
    parser.add_argument('--every', type=int, help='every how many frames (5)')
    parser.add_argument('--scans', type=int, help='later scans added to the present one (70)')
    workers = os.cpu_count() or 1
    parser.add_argument('--workers', type=int, default=workers, help='processes')


def run(args: argparse.Namespace) -> int:
    """Voxelise every chosen frame; existing files are replaced."""
    from tqdm import tqdm

    from cigocc_ros.data import voxelizer
    from cigocc_ros.data.kitti_sequence import KittiSequence, find_sequences

    every = voxelizer.VOXELS_EVERY if args.every is None else args.every
    later = voxelizer.LATER_SCANS if args.scans is None else args.scans
    sequences = [KittiSequence(path) for path in find_sequences(args.sequence)]
    jobs = [(s, voxelizer.frames_to_voxelize(s, every, later)) for s in sequences]
    with tqdm(total=sum(len(frames) for _, frames in jobs), unit='frame') as bar:
        for sequence, frames in jobs:
            folder = args.out / 'sequences' / sequence.name / 'voxels'
            bar.set_description(sequence.name)
            for _ in voxelizer.write_voxels(sequence, frames, folder, later, args.workers):
                bar.update()
    print(f'{sum(len(frames) for _, frames in jobs)} frames in {args.out}/sequences')
    return 0
