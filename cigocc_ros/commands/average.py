"""`cigocc average`: one checkpoint of several of the same training, the mean of their weights.

Weights along the path of one training lie around a better place than any of them reaches, and
their mean costs nothing at run time: Izmailov et al., Averaging Weights Leads to Wider Optima and
Better Generalization, 2018. `keep_validated` of the training keeps what there is to average.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cigocc_ros.core.errors import ConfigError

if TYPE_CHECKING:
    from cigocc_ros.model.cigocc import CigOcc

HELP = 'write the mean of the weights of several checkpoints of one training'
OF_ONE = ('scores', 'progress')
"""What a checkpoint says of itself that is not so of a mean."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        'checkpoints', type=Path, nargs='+', help='folders of weights, e.g. runs/mid/joint-*'
    )
    parser.add_argument('--out', type=Path, required=True, help='folder to write')


def run(args: argparse.Namespace) -> int:
    """Read all, write the mean, print what it is of; return 0."""
    from cigocc_ros.commands.weights import require_finite
    from cigocc_ros.model.build import load_checkpoint, read_checkpoint_record, save_checkpoint

    folders = [path.resolve() for path in args.checkpoints]
    if len(folders) < 2 or len(set(folders)) < len(folders):
        raise ConfigError(
            'a mean is of two checkpoints at least, each named once; found '
            f'{" ".join(map(str, args.checkpoints))}'
        )
    if args.out.resolve() in folders:
        raise ConfigError(f'--out {args.out} is one of the checkpoints: it would be overwritten')
    models = []
    for folder in args.checkpoints:
        models.append(load_checkpoint(folder))
        require_finite(models[-1], folder)
    check_alike(args.checkpoints, models)
    records = [read_checkpoint_record(folder) for folder in args.checkpoints]
    record = record_of_mean(args.checkpoints, records)
    paths = save_checkpoint(mean_of(models), args.out, record)
    steps = ', '.join(str(one.get('step', '?')) for one in records)
    print(f'{paths[0]}: mean of {len(models)} checkpoints, steps {steps}')
    return 0


def check_alike(folders: Sequence[Path], models: Sequence[CigOcc]) -> None:
    """Raise ConfigError naming the first checkpoint whose network is another one."""
    for folder, model in zip(folders, models, strict=True):
        if model.config != models[0].config:
            raise ConfigError(
                f'{folder}: expected a network of the config of {folders[0]}, found another; '
                'average checkpoints of one training'
            )


def mean_of(models: Sequence[CigOcc]) -> CigOcc:
    """Turn the first network into the mean of all and return it; counters are those of the last.

    The statistics of batch norms are averaged as the weights are.
    """
    import torch

    states = [model.state_dict() for model in models]
    with torch.no_grad():
        for name, value in states[0].items():
            others = [state[name] for state in states]
            if value.is_floating_point():
                mean = torch.stack([other.double() for other in others]).mean(0)
                value.copy_(mean.to(value.dtype))
            else:
                value.copy_(others[-1])
    return models[0]


def record_of_mean(folders: Sequence[Path], records: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Return what the last checkpoint says of its training, and of which ones the mean is."""
    from cigocc_ros.model.weight_files import weights_sha256

    kept = {name: value for name, value in records[-1].items() if name not in OF_ONE}
    kept['averaged'] = [
        {'step': record.get('step'), 'weights_sha256': weights_sha256(folder)}
        for folder, record in zip(folders, records, strict=True)
    ]
    return {name: json.dumps(value) for name, value in kept.items()}
