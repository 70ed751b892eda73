"""`cigocc weights`: a checkpoint in float16, in parts, or beside the ONNX files of its model."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cigocc_ros.core.errors import ConfigError, ManifestError
from cigocc_ros.core.manifest import (
    MANIFEST_FILE,
    WEIGHTS_CONFIG_ROLE,
    WEIGHTS_ROLE,
    load_manifest,
)

if TYPE_CHECKING:
    from cigocc_ros.model.cigocc import CigOcc

HELP = 'write a checkpoint in float16, in parts, or into the folder of its model'
TOLD_BY_BOTH = ('stage', 'step', 'data', 'commit')
"""What header and manifest say of the training: the same, where both are of the same weights."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('checkpoint', type=Path, help='folder of weights, e.g. runs/mid/best')
    parser.add_argument(
        '--out',
        type=Path,
        required=True,
        help='folder to write; a model folder of "cigocc export" gets the weights into its '
        'manifest, for "cigocc train --init"',
    )
    parser.add_argument(
        '--precision',
        choices=('fp16', 'fp32'),
        default='fp16',
        help='of the matrices in the file; norms and biases stay fp32 (default %(default)s)',
    )
    parser.add_argument(
        '--part-mib', type=float, metavar='MIB', help='write parts of at most so many MiB each'
    )


def run(args: argparse.Namespace) -> int:
    """Read, write, print each file with its size; return 0."""
    from cigocc_ros.model.build import load_checkpoint, read_checkpoint_record, save_checkpoint
    from cigocc_ros.model.weight_files import read_record

    if args.out.resolve() == args.checkpoint.resolve():
        raise ConfigError(f'--out {args.out} is the checkpoint itself: it would be overwritten')
    model = load_checkpoint(args.checkpoint)
    require_finite(model, args.checkpoint)
    into_model = (args.out / MANIFEST_FILE).is_file()
    if into_model:
        check_model_folder(args.out, model, read_checkpoint_record(args.checkpoint), args.part_mib)
    record = read_record(args.checkpoint)
    paths = save_checkpoint(model, args.out, record, args.precision, args.part_mib)
    if into_model:
        list_weights(args.out, *paths)
    for path in paths:
        print(f'{path}: {path.stat().st_size / 1e6:.1f} MB')
    return 0


def require_finite(model: CigOcc, checkpoint: Path) -> None:
    """Raise ConfigError for weights that are no numbers: such a network answers nothing."""
    import torch

    broken = [
        name for name, value in model.state_dict().items() if not torch.isfinite(value).all()
    ]
    if broken:
        raise ConfigError(f'{checkpoint}: {broken[0]} holds values that are not finite')


def check_model_folder(
    folder: Path, model: CigOcc, record: dict[str, Any], part_mib: float | None
) -> None:
    """Raise unless weights are those that a model folder was exported from, as far as told."""
    from cigocc_ros.core.config import ModelConfig, from_mapping

    if part_mib is not None:
        raise ConfigError(
            f'{folder} is a model folder, which takes one file: leave out --part-mib'
        )
    training = load_manifest(folder).training
    network = from_mapping(ModelConfig, training.get('config', {}), f'{folder}: training.config')
    if network != model.config:
        raise ManifestError(f'{folder}: exported from a network of another config')
    for key in TOLD_BY_BOTH:
        if key in record and key in training and record[key] != training[key]:
            raise ManifestError(
                f'{folder}: exported from other weights: {key} is {training[key]!r} in the '
                f'manifest, {record[key]!r} in the checkpoint; export this checkpoint first'
            )


def list_weights(folder: Path, weights: Path, config: Path) -> None:
    """Add both files with their hashes to the manifest of a model folder."""
    import dataclasses

    from cigocc_ros.core.manifest import file_spec, write_manifest

    manifest = load_manifest(folder)
    added = {
        WEIGHTS_ROLE: file_spec(folder, weights.name),
        WEIGHTS_CONFIG_ROLE: file_spec(folder, config.name),
    }
    write_manifest(folder, dataclasses.replace(manifest, files={**manifest.files, **added}))
