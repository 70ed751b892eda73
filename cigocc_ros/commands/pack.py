"""`cigocc pack`: prepared frames in few small files, for a training host that has no data set."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from cigocc_ros.core.config import load_model_config
from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.installed import DEFAULT_MODEL

if TYPE_CHECKING:
    from cigocc_ros.core.config import ModelConfig
    from cigocc_ros.training.cache import FrameRef

HELP = 'pack prepared frames into shards, for training where the data set is not'
FRAMES_PER_SHARD = 100
"""Some 15 MB of `mid`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments; those of `cigocc train` mean the same."""
    parser.add_argument('--data', action='append', required=True, metavar='DIR[@SEQUENCES]')
    parser.add_argument('--out', type=Path, required=True, help='folder of the shards')
    parser.add_argument('--model', default=DEFAULT_MODEL, help='as of train (%(default)s)')
    parser.add_argument('--config', default='synthetic', help='as of train (%(default)s)')
    parser.add_argument(
        '--stage',
        choices=('eyes', 'joint'),
        default='joint',
        help='for which stages of train: eyes packs images with volumes or without, joint, the '
        'default, frames with volumes, for all other stages',
    )
    parser.add_argument('--ground-truth', type=Path, help='as of train')
    parser.add_argument('--cache', type=Path, help='as of train')
    parser.add_argument('--teacher', action='append', metavar='DIR', help='as of train')
    parser.add_argument(
        '--semantic-prior', action='append', metavar='DIR:CLASSES', help='likewise'
    )
    parser.add_argument('--name', default='frames', help='beginning of the file names')
    parser.add_argument(
        '--frames-per-shard', type=int, default=FRAMES_PER_SHARD, help='(default %(default)s)'
    )


def run(args: argparse.Namespace) -> int:
    """Prepare the frames and pack them; print each file with its size; return 0."""
    from cigocc_ros.training.cache import cache_key, load_frame
    from cigocc_ros.training.shards import SUFFIX, frame_name, write_shard

    if args.frames_per_shard < 1:
        raise ConfigError(f'--frames-per-shard takes 1 or more, found {args.frames_per_shard}')
    model = load_model_config(args.model)
    frames = prepared_frames(args, model)
    prepared_for = cache_key(model, volumes=args.stage != 'eyes')
    for start in range(0, len(frames), args.frames_per_shard):
        chosen = frames[start : start + args.frames_per_shard]
        path = args.out / f'{args.name}_{start // args.frames_per_shard:04d}{SUFFIX}'
        named = ((frame_name(frame), load_frame(frame)) for frame in chosen)
        count = write_shard(path, prepared_for, named)
        print(f'{path}: {count} frames, {path.stat().st_size / 1e6:.1f} MB')
    return 0


def prepared_frames(args: argparse.Namespace, model: ModelConfig) -> list[FrameRef]:
    """Return the frames of all --data, prepared, showing progress."""
    from cigocc_ros.training.assembly import DataSources, prepare
    from cigocc_ros.training.config import load_train_config

    config = load_train_config(args.config)
    sources = DataSources(
        data=args.data,
        teachers=args.teacher,
        semantics=args.semantic_prior,
        ground_truth=args.ground_truth,
        cache=args.cache,
    )
    sets = sources.training_frames(model, config, args.stage != 'eyes')
    frames = [frame for one in sets for frame in one]
    prepare('frames', frames, model, config)
    return frames
