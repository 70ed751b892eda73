"""`cigocc bag`: a KITTI sequence becomes a ROS 2 bag, without a ROS installation."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

HELP = 'write a KITTI sequence or drive as a ROS 2 bag'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        'sequence',
        type=Path,
        help='sequence folder, e.g. dataset/sequences/00, or a drive of KITTI raw, e.g. '
        '2011_09_26/2011_09_26_drive_0001_sync',
    )
    parser.add_argument('--out', type=Path, required=True, help='bag folder to write')
    parser.add_argument(
        '--storage',
        choices=('mcap', 'sqlite3'),
        default='mcap',
        help='file format (default %(default)s)',
    )
    parser.add_argument('--right', action='store_true', help='add the right camera')
    parser.add_argument('--depth', action='store_true', help='add the depth images (depth_2)')
    parser.add_argument(
        '--semantic-prior',
        type=Path,
        metavar='DIR',
        help='add label images of a segmentation network, of DIR/sequences/SS/FFFFFF.png',
    )
    parser.add_argument('--lidar', action='store_true', help='add the lidar scans')
    parser.add_argument(
        '--ground-truth', action='store_true', help='add the labelled voxels as a cloud'
    )
    parser.add_argument(
        '--ground-truth-frame',
        default='',
        metavar='FRAME',
        help='frame of the ground truth (default: of the lidar, where it belongs); '
        'ground_truth_view is shown beside the prediction by kitti_replay.launch.py',
    )
    parser.add_argument('--compressed', action='store_true', help='JPEG instead of raw images')
    parser.add_argument('--start', type=int, default=0, help='index of the first frame')
    parser.add_argument('--end', type=int, help='index after the last frame (default: all)')


def run(args: argparse.Namespace) -> int:
    """Write the bag and print its topics; return 0."""
    from cigocc_ros.data.kitti_raw import is_raw_drive, link_as_sequence

    if not is_raw_drive(args.sequence):
        return _write(args, args.sequence)
    with tempfile.TemporaryDirectory() as folder:
        return _write(args, link_as_sequence(args.sequence, Path(folder) / args.sequence.name))


def _write(args: argparse.Namespace, folder: Path) -> int:
    from tqdm import tqdm

    from cigocc_ros.data.bag import BagContent, write_bag
    from cigocc_ros.data.kitti_sequence import KittiSequence

    content = BagContent(
        right=args.right,
        depth=args.depth,
        semantic_prior=args.semantic_prior,
        lidar=args.lidar,
        ground_truth=args.ground_truth,
        compressed=args.compressed,
        ground_truth_frame=args.ground_truth_frame,
        start=args.start,
        end=args.end,
    )

    def track(frames: Sequence[str]) -> Iterable[str]:
        bar: Iterable[str] = tqdm(frames, unit='frame', disable=None)  # silent in a pipe
        return bar

    counts = write_bag(KittiSequence(folder), args.out, args.storage, content, track)
    size_mb = sum(path.stat().st_size for path in args.out.iterdir()) / 1e6
    for topic, count in counts.items():
        print(f'{count:6d}  {topic}')
    print(f'wrote {args.out}, {size_mb:.1f} MB: ros2 bag play {args.out} --clock')
    return 0
