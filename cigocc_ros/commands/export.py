"""`cigocc export`: a checkpoint becomes a model folder that the node can run."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from cigocc_ros.core.errors import DataFileError

HELP = 'turn a checkpoint into a verified ONNX model folder'
DEFAULT_LICENSE = 'Apache-2.0'


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
    from cigocc_ros.export.gate import MIN_AGREEMENT, ModelFacts, export_model
    from cigocc_ros.model.build import load_checkpoint

    model = load_checkpoint(args.checkpoint)
    facts = ModelFacts(args.model_id or args.out.resolve().name, args.license, facts_of_run)
    print(f'exporting {args.checkpoint} ({model.config.name}), then comparing with torch ...')
    report = export_model(model, model.config, args.out, facts, args.gate_inputs, args.with_logits)
    size_mb = (args.out / 'model.onnx').stat().st_size / 1e6
    print(f'parity: {report} (at least {100 * MIN_AGREEMENT} % of each required)')
    print(f'wrote {args.out}: model.onnx {size_mb:.1f} MB, golden.npz, manifest.yaml')
    return 0


def training_facts(checkpoint: Path) -> dict[str, Any]:
    """Return what the run recorded in run.json, in the checkpoint's folder or the one above.

    Empty where there is none: weights need not come from `cigocc train`.
    """
    for path in (checkpoint / 'run.json', checkpoint.parent / 'run.json'):
        if path.is_file():
            return _read_facts(path)
    return {}


def _read_facts(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataFileError(f'{path}: cannot be read as JSON: {error}') from error
    if not isinstance(facts, dict):
        raise DataFileError(f'{path}: expected an object of facts, found {type(facts).__name__}')
    return facts
