"""`cigocc export`: a checkpoint becomes a model folder that the node can run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from cigocc_ros.core.calibration import (
    WEIGHTS_SHA256,
    Calibration,
    calibration_of_weights,
    read_calibration,
)
from cigocc_ros.core.errors import ConfigError

HELP = 'turn a checkpoint into a verified ONNX model folder'
DEFAULT_LICENSE = 'Apache-2.0'
RECORDED = ('stage', 'step', 'scores', 'data', 'commit')
"""What a manifest should say of the training."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        '--checkpoint',
        type=Path,
        required=True,
        help='folder of weights that `cigocc train` saved, e.g. runs/mid/best',
    )
    parser.add_argument(
        '--out', type=Path, required=True, help='model folder to write, e.g. models/mid'
    )
    parser.add_argument('--model-id', help='id in the manifest (default: name of the folder)')
    parser.add_argument(
        '--license',
        default=DEFAULT_LICENSE,
        help='licence of the weights, as text for the manifest (default %(default)s)',
    )
    answers = parser.add_mutually_exclusive_group()
    answers.add_argument(
        '--calibration',
        type=Path,
        metavar='FILE',
        help='what `cigocc calibrate` wrote: probabilities, threshold and class confidence of the '
        'model become calibrated ones',
    )
    answers.add_argument(
        '--empty-shift',
        type=float,
        default=0.0,
        help='added to the logit of empty, without a calibration (default %(default)s)',
    )
    parser.add_argument(
        '--calibration-of-other-weights',
        action='store_true',
        help='take a calibration of other weights, e.g. of the same training without the frames '
        'that calibrated; the manifest says which',
    )
    parser.add_argument(
        '--gate-inputs',
        type=int,
        default=4,
        help='random frames on which ONNX Runtime must agree with torch (default %(default)s)',
    )
    parser.add_argument(
        '--with-logits', action='store_true', help='also write model_logits.onnx for evaluation'
    )


def run(args: argparse.Namespace) -> int:
    """Export, prove against torch, write; return 0."""
    facts_of_run = training_facts(args.checkpoint)
    if facts_of_run.get('stage') == 'eyes':
        raise ConfigError(
            f'{args.checkpoint} was trained in the stage eyes, its 3D part still has random '
            'weights: go on with "cigocc train --stage joint --init", then export that'
        )
    from cigocc_ros.export.gate import MIXED_FILE, ONNX_FILE, ModelFacts, export_model
    from cigocc_ros.model.build import load_checkpoint
    from cigocc_ros.model.weight_files import weights_sha256

    model = load_checkpoint(args.checkpoint)
    facts_of_run[WEIGHTS_SHA256] = weights_sha256(args.checkpoint)
    calibration = chosen_calibration(args, facts_of_run[WEIGHTS_SHA256])
    if args.empty_shift:
        model.head.raise_empty(args.empty_shift)
        facts_of_run['empty_shift'] = args.empty_shift
    model_id = args.model_id or args.out.resolve().name
    facts = ModelFacts(model_id, args.license, facts_of_run, calibration)
    print(f'exporting {args.checkpoint} ({model.config.name}), then comparing with torch ...')
    report = export_model(model, model.config, args.out, facts, args.gate_inputs, args.with_logits)
    print(report)
    sizes = [
        f'{name} {(args.out / name).stat().st_size / 1e6:.1f} MB'
        for name in (ONNX_FILE, MIXED_FILE)
    ]
    print(f'wrote {args.out}: {", ".join(sizes)}, golden.npz, manifest.yaml')
    return 0


def chosen_calibration(args: argparse.Namespace, weights: str) -> Calibration | None:
    """Return the calibration that was asked for; raise DataFileError where it is of others."""
    if args.calibration is None:
        if args.calibration_of_other_weights:
            raise ConfigError('--calibration-of-other-weights goes with --calibration FILE')
        return None
    if args.calibration_of_other_weights:
        return read_calibration(args.calibration)
    return calibration_of_weights(args.calibration, weights)


def training_facts(checkpoint: Path) -> dict[str, Any]:
    """Return what the header of the weights says of their making, fit for a manifest.

    The network's config is left out, which the manifest has. A checkpoint of 0.1.0 has no stage,
    step and scores there; weights need not come from `cigocc train` at all: what is missing is
    said, not guessed.
    """
    from cigocc_ros.model.build import read_checkpoint_record

    record = read_checkpoint_record(checkpoint)
    for left_out in ('model', 'progress'):
        record.pop(left_out, None)
    missing = [name for name in RECORDED if name not in record]
    if missing:
        print(
            f'{checkpoint}: its header does not say {", ".join(missing)}; the manifest will not '
            'either'
        )
    return record
