"""`cigocc train`: train a network on a SemanticKITTI-layout folder, real or synthetic."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from cigocc_ros.core.config import load_model_config
from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.share import DEFAULT_MODEL

if TYPE_CHECKING:
    from cigocc_ros.core.config import ModelConfig
    from cigocc_ros.model.cigocc import CigOcc
    from cigocc_ros.training.cache import FrameRef

HELP = 'train a network on a folder in the layout of SemanticKITTI'
DEFAULT_OUT = Path('runs/train')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('--data', type=Path, required=True, help='folder that holds sequences/')
    parser.add_argument('--val', type=Path, help='folder of the validation sequences')
    parser.add_argument(
        '--model',
        default=DEFAULT_MODEL,
        help='name in config/model or YAML file (default %(default)s)',
    )
    parser.add_argument(
        '--config',
        default='synthetic',
        help='name in config/train or YAML file (default %(default)s)',
    )
    parser.add_argument(
        '--stage',
        choices=('1', '2', 'joint', 'both'),
        default='both',
        help="'both' is stage 1, then the second stage that the config names (default both)",
    )
    parser.add_argument(
        '--out', type=Path, default=DEFAULT_OUT, help='results (default %(default)s)'
    )
    parser.add_argument('--init', type=Path, help='checkpoint folder to start from')
    parser.add_argument('--resume', action='store_true', help='go on with the run in --out')
    parser.add_argument('--steps', type=int, help='optimiser steps, instead of the config')
    parser.add_argument(
        '--time-budget-min',
        type=float,
        metavar='MIN',
        help='end after this wall-clock time; the learning rate follows it instead of the steps',
    )
    parser.add_argument(
        '--cache', type=Path, help='folder of the prepared frames (default: cache/ in the data)'
    )
    parser.add_argument('--threads', type=int, help='CPU threads (default: all cores)')


def run(args: argparse.Namespace) -> int:
    """Prepare the frames, train, and say where the weights are; return 0."""
    import dataclasses
    import logging

    import torch

    from cigocc_ros.training.config import load_train_config
    from cigocc_ros.training.loop import LATEST, Trainer, plan_stages
    from cigocc_ros.training.record import write_record
    from cigocc_ros.training.scene_dataset import SceneDataset, TrainingStream

    logging.getLogger('cigocc_ros.training').setLevel(logging.INFO)
    model_config, config = load_model_config(args.model), load_train_config(args.config)
    if args.steps is not None:
        config = dataclasses.replace(config, steps=args.steps)
    budget_s = None if args.time_budget_min is None else 60 * args.time_budget_min
    plans = plan_stages(args.stage, config, budget_s)
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    torch.manual_seed(config.seed)
    train = _prepared(args.data, model_config, args.cache)
    val = None if args.val is None else _prepared(args.val, model_config, args.cache)
    trainer = Trainer(
        model=_start_model(args.init, model_config),
        stream=TrainingStream(train, model_config, config.augment, config.seed),
        validation=None if val is None else SceneDataset(val, model_config),
        config=config,
        out=args.out,
    )
    write_record(args.out, trainer, args.data, args.val)
    trainer.run(plans, resume=args.resume)
    print(f'weights: {args.out / LATEST}')
    return 0


def _prepared(root: Path, config: ModelConfig, cache: Path | None) -> list[FrameRef]:
    """Return the frames under `root`, all prepared, showing progress."""
    from tqdm import tqdm

    from cigocc_ros.training.cache import find_frames, prepare_frames

    frames = find_frames(root, config, cache)
    missing = sum(not frame.is_prepared for frame in frames)
    description = f'preparing {root.name}'
    for _ in tqdm(
        prepare_frames(frames, config), total=missing, desc=description, disable=not missing
    ):
        pass
    return frames


def _start_model(folder: Path | None, config: ModelConfig) -> CigOcc:
    """Return a new network, or the one of a checkpoint, which must be of the same config."""
    from cigocc_ros.model.build import build_model, load_checkpoint

    if folder is None:
        return build_model(config)
    model = load_checkpoint(folder)
    if model.config != config:
        raise ConfigError(
            f'--init {folder} holds a {model.config.name!r} network that differs from --model '
            f'{config.name!r}'
        )
    return model
