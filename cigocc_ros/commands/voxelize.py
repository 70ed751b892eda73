"""`cigocc voxelize`: labelled scans and poses -> SemanticKITTI voxel volumes."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

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
    parser.add_argument(
        '--turned',
        type=int,
        default=0,
        metavar='N',
        help='with --partial: N more volumes a frame with the grid turned and moved against the '
        'camera, in OUT/turned, to train on (0)',
    )
    parser.add_argument('--every', type=int, help='every how many frames (5)')
    parser.add_argument('--scans', type=int, help='later scans added to the present one (70)')
    workers = os.cpu_count() or 1
    parser.add_argument('--workers', type=int, default=workers, help='processes')


def run(args: argparse.Namespace) -> int:
    """Voxelise every chosen frame of every sequence that can be; say what was skipped and why.

    Existing files are replaced. Raises DataFileError where no sequence can be.
    """
    from tqdm import tqdm

    from cigocc_ros.core.errors import ConfigError, DataFileError

    if args.earlier < 0 or (args.earlier and not args.partial):
        raise ConfigError(f'--earlier takes 0 or more and --partial, found {args.earlier}')
    if args.turned < 0 or (args.turned and not args.partial):
        raise ConfigError(f'--turned takes 0 or more and --partial, found {args.turned}')
    jobs, skipped = _jobs(args)
    if not jobs:
        raise DataFileError('no sequence can be voxelised:\n  ' + '\n  '.join(skipped))
    total = sum(len(job.frames) for job in jobs)
    with tqdm(total=total, unit='frame') as bar:
        for job in jobs:
            bar.set_description(job.sequence.name)
            for _ in _written(args, job):
                bar.update()
    print(f'{total} frames of {len(jobs)} sequences in {args.out}')
    if skipped:
        print(f'{len(skipped)} sequences skipped:\n  ' + '\n  '.join(skipped))
    return 0


class _Job(NamedTuple):
    """Frames of a sequence, and how many later scans each takes."""

    sequence: KittiSequence
    frames: list[str]
    later: int


def _jobs(args: argparse.Namespace) -> tuple[list[_Job], list[str]]:
    """Return what can be voxelised, and for each other sequence why it cannot."""
    from cigocc_ros.core.errors import CalibrationError, DataFileError
    from cigocc_ros.data import partial_truth, voxelizer
    from cigocc_ros.data.kitti_layout import VOXELS_EVERY, find_sequences
    from cigocc_ros.data.kitti_sequence import KittiSequence

    every = VOXELS_EVERY if args.every is None else args.every
    later = voxelizer.LATER_SCANS if args.scans is None else args.scans
    jobs: list[_Job] = []
    skipped: list[str] = []
    for path in find_sequences(args.sequence):
        try:
            sequence = KittiSequence(path)
            frames = voxelizer.frames_to_voxelize(sequence, every, later)
            if args.partial:
                partial_truth.masked_frames(sequence)
        except (CalibrationError, DataFileError) as error:
            skipped.append(str(error))
        else:
            jobs.append(_Job(sequence, frames, later))
    return jobs, skipped


def _written(args: argparse.Namespace, job: _Job) -> Iterator[str]:
    """Write the frames of a sequence in the form asked for; yield each id."""
    from cigocc_ros.data import partial_truth, voxelizer

    if args.partial:
        return partial_truth.write_partial_truth(
            job.sequence, job.frames, args.out, job.later, args.earlier, args.workers, args.turned
        )
    folder = args.out / 'sequences' / job.sequence.name / 'voxels'
    return voxelizer.write_voxels(job.sequence, job.frames, folder, job.later, args.workers)
