"""`cigocc export`: a checkpoint becomes a model folder that the node can run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from cigocc_ros.core.errors import ConfigError, DataFileError
from cigocc_ros.core.yaml_json import parse_json

HELP = 'turn a checkpoint into a verified ONNX model folder'
DEFAULT_LICENSE = 'Apache-2.0'
RECORD_FILE, LOG_FILE = 'run.json', 'log.jsonl'
"""What training.record and training.loop write; named here so that --help needs no torch."""


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
        '--empty-shift',
        type=float,
        default=0.0,
        help='added to the logit of empty; choose it on validation frames (default %(default)s)',
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
    from cigocc_ros.export.gate import MIXED_FILE, ONNX_FILE, ModelFacts, export_model
    from cigocc_ros.model.build import load_checkpoint

    model = load_checkpoint(args.checkpoint)
    if args.empty_shift:
        model.head.raise_empty(args.empty_shift)
        facts_of_run['empty_shift'] = args.empty_shift
    facts = ModelFacts(args.model_id or args.out.resolve().name, args.license, facts_of_run)
    print(f'exporting {args.checkpoint} ({model.config.name}), then comparing with torch ...')
    report = export_model(model, model.config, args.out, facts, args.gate_inputs, args.with_logits)
    print(report)
    sizes = [
        f'{name} {(args.out / name).stat().st_size / 1e6:.1f} MB'
        for name in (ONNX_FILE, MIXED_FILE)
    ]
    print(f'wrote {args.out}: {", ".join(sizes)}, golden.npz, manifest.yaml')
    return 0


def training_facts(checkpoint: Path) -> dict[str, Any]:
    """Return what `cigocc train` recorded of the run, fit for the manifest of a shipped model.

    run.json and log.jsonl lie beside the checkpoint's folder. The network's config is left out
    (the manifest has it) and data folders are named, not located. Empty where there is no record:
    weights need not come from `cigocc train`.
    """
    folder = checkpoint.resolve().parent
    if not (folder / RECORD_FILE).is_file():
        return {}
    facts = _parsed(folder / RECORD_FILE, (folder / RECORD_FILE).read_bytes())
    facts.pop('model', None)
    if facts.get('data'):
        facts['data'] = [Path(one).name for one in _as_list(facts['data'])]
    if facts.get('val'):
        facts['val'] = Path(facts['val']).name
    log = folder / LOG_FILE
    if log.is_file():
        facts['log'] = log_facts([_parsed(log, line) for line in log.read_bytes().splitlines()])
    return facts


def log_facts(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Return where training ended and the scores of the best validation.

    That is how `best` was chosen: by the first kind of depth prior, and not in stage 1, which is
    scored on a coarser grid.
    """
    facts: dict[str, Any] = {}
    if lines:
        facts['last'] = {key: lines[-1][key] for key in ('stage', 'step', 'time_s')}
    validations = [line for line in lines if 'miou' in line and line['stage'] != '1']
    validations = [one for one in validations if one.get('prior') == validations[0].get('prior')]
    if validations:
        best = max(validations, key=lambda line: float(line['miou']))
        keys = ('stage', 'step', 'prior', 'iou', 'miou')
        facts['best'] = {key: best[key] for key in keys if key in best}
    return facts


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _parsed(path: Path, content: bytes) -> dict[str, Any]:
    try:
        return parse_json(content, str(path))
    except ConfigError as error:
        raise DataFileError(str(error)) from error
