"""What each way of varying a few real frames gives on streets that were not among them.

    python -m benchmark.augmentation eyes --data KITTI --out runs/augmentation
    python -m benchmark.augmentation joint --data KITTI --truth TRUTH --out runs/augmentation
    python -m benchmark.augmentation table --out runs/augmentation

from the root of the repository. Trains `--model` from random weights on sequences 00 to 04, 06
and 07 of real frames, with one setting of AugmentConfig after the other, and scores 05 and 09: in
2D after the stage `eyes`, which a processor has the time for, in voxels after `joint`. The frames
that were trained on are scored as well: a variant that helps learns less by heart. TRUTH are
volumes of "cigocc voxelize --partial", with those of `--turned` for the variant `turned`. A run is
a file OUT/STAGE/VARIANT-seedN.json; finished ones are kept.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import torch

from benchmark.augmentation.runs import (
    Experiment,
    Kind,
    load_variants,
    run,
)
from benchmark.augmentation.table import markdown
from cigocc_ros.core.config import load_model_config
from cigocc_ros.core.files import write_atomically

STEPS = {'eyes': 1200, 'joint': 450}


def main(words: Sequence[str] | None = None) -> int:
    """Run what is missing of a stage, or print the table; return 0."""
    args = _parser().parse_args(words)
    if args.task == 'table':
        sys.stdout.write(markdown(args.out))
        return 0
    torch.set_num_threads(args.threads)
    kind: Kind = args.task
    experiment = Experiment(
        kind, load_model_config(args.model), args.data, args.truth,
        args.cache or args.out / 'cache', args.steps or STEPS[kind],
    )  # fmt: skip
    variants = load_variants()
    for seed in args.seeds:
        for name in args.variants or variants:
            path = args.out / kind / f'{name}-seed{seed}.json'
            if not path.is_file():
                result = run(experiment, variants[name], seed)
                write_atomically(path, json.dumps(result, indent=1) + '\n')
                sys.stdout.write(_line(path, result))
                sys.stdout.flush()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='python -m benchmark.augmentation', description=(__doc__ or '').splitlines()[0]
    )
    parser.add_argument('task', choices=(*get_args(Kind), 'table'))
    parser.add_argument('--data', type=Path, help='sequences 00 to 07 and 09')
    parser.add_argument('--truth', type=Path, help='SS_FFFFFF.npz, for joint')
    parser.add_argument('--cache', type=Path, help='prepared frames (default: OUT/cache)')
    parser.add_argument('--out', type=Path, default=Path('runs/augmentation'), help='the runs')
    parser.add_argument('--variants', nargs='+', choices=list(load_variants()), help='only these')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0])
    parser.add_argument('--steps', type=int, help=f'instead of {STEPS}')
    parser.add_argument('--model', default='small', help='(default small)')
    parser.add_argument('--threads', type=int, default=1, help='CPU threads (default 1)')
    return parser


def _line(path: Path, result: dict[str, Any]) -> str:
    parts = [
        f'{where} {prior} ' + ' '.join(f'{name} {value:.3f}' for name, value in one.items())
        for where, scores in result['scores'].items()
        for prior, one in scores.items()
    ]
    return f'{path.parent.name}/{path.stem}: {"; ".join(parts)}; {result["train_s"]:.0f} s\n'


if __name__ == '__main__':
    sys.exit(main())
