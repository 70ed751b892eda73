"""What each part of the architecture gives: few steps, the same frames and seeds for all variants.

    cigocc synthesize streets/train --sequences 14 --frames 4 --width 640 --step-m 8 --seed 52000
    cigocc synthesize streets/val --sequences 4 --frames 4 --width 640 --step-m 8 --seed 90000
    python -m benchmark.architecture streets --data streets/train --val streets/val \
        --out runs/architecture --variants base perfect
    python -m benchmark.architecture real --data KITTI --truth TRUTH --segmentation CITYSCAPES \
        --out runs/architecture
    python -m benchmark.architecture table --out runs/architecture

from the root of the repository. `streets` trains 450 steps on generated streets and scores others,
`real` the same on real frames and scores sequence 05, `overfit` trains 400 steps on four real
frames and scores those. A run is a file OUT/TASK/VARIANT-seedN.json; finished ones are kept.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from benchmark.architecture.experiment import Budget, Variant, run
from benchmark.architecture.scenes import load_scenes
from benchmark.architecture.table import markdown
from cigocc_ros.core.arrays import Arrays
from cigocc_ros.core.config import ModelConfig, from_mapping, load_model_config
from cigocc_ros.core.files import write_atomically
from cigocc_ros.training.config import AugmentConfig

VARIANTS_FILE = Path(__file__).with_name('variants.yaml')
REAL_TRAIN, REAL_VAL = ('00', '01', '02', '03', '04', '06', '07', '09'), ('05',)
OVERFIT = ('00', '02', '04', '05')
STREETS_VAL_FRAMES = 2
"""The first frames of each street that are scored."""


STILL = AugmentConfig(flip=0.0, jitter=0.0, prior_none=0.0, prior_stereo=1.0, prior_depth=0.0)
TASKS = {
    'streets': Budget(steps=450),
    'real': Budget(steps=450),
    'overfit': Budget(steps=400, augment=STILL),
}


def main(words: Sequence[str] | None = None) -> int:
    """Run what is missing of a task, or print the table; return 0."""
    args = _parser().parse_args(words)
    if args.task == 'table':
        sys.stdout.write(markdown(args.out))
        return 0
    torch.set_num_threads(args.threads)
    base = load_model_config(args.model)
    variants = load_variants()
    chosen = [variants[name] for name in args.variants or variants]
    jobs = [
        (variant, seed, args.out / args.task / f'{variant.name}-seed{seed}.json')
        for seed in args.seeds
        for variant in chosen
    ]
    missing = [job for job in jobs if not job[2].is_file()]
    frames = _frames(args, base) if missing else ([], [])
    for variant, seed, path in missing:
        result = run(*frames, variant, base, TASKS[args.task], seed)
        write_atomically(path, json.dumps({'task': args.task, **result}, indent=1) + '\n')
        sys.stdout.write(_line(path, result))
        sys.stdout.flush()
    return 0


def load_variants(path: Path = VARIANTS_FILE) -> dict[str, Variant]:
    """Return the variants by name; raise ConfigError for a key that none has."""
    rows = yaml.safe_load(path.read_text(encoding='utf-8'))
    listed = [from_mapping(Variant, row, str(path)) for row in rows]
    return {variant.name: variant for variant in listed}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='python -m benchmark.architecture', description=(__doc__ or '').splitlines()[0]
    )
    parser.add_argument('task', choices=(*TASKS, 'table'))
    parser.add_argument('--data', type=Path, nargs='+', help='frames to train on')
    parser.add_argument('--val', type=Path, help='streets to score on')
    parser.add_argument('--truth', type=Path, help='SS_FFFFFF.npz of the real frames')
    parser.add_argument('--segmentation', type=Path, help='SS/FFFFFF.png of Cityscapes ids')
    parser.add_argument('--cache', type=Path, help='prepared frames (default: OUT/cache)')
    parser.add_argument('--out', type=Path, default=Path('runs/architecture'), help='the runs')
    parser.add_argument('--variants', nargs='+', choices=list(load_variants()), help='only these')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0])
    parser.add_argument('--model', default='small', help='what variants change (default small)')
    parser.add_argument('--threads', type=int, default=1, help='CPU threads (default 1)')
    return parser


def _frames(args: argparse.Namespace, base: ModelConfig) -> tuple[list[Arrays], list[Arrays]]:
    """Return the frames to train on and to score."""
    cache = args.cache or args.out / 'cache'
    if args.task == 'streets':
        return (
            [f for root in args.data for f in load_scenes(root, base, cache=cache)],
            load_scenes(args.val, base, cache=cache, frames_per_sequence=STREETS_VAL_FRAMES),
        )

    def real(names: Sequence[str], count: int | None = None) -> list[Arrays]:
        return [
            frame
            for root in args.data
            for frame in load_scenes(
                root,
                base,
                cache=cache,
                sequences=names,
                truth=args.truth,
                frames_per_sequence=count,
                segmentation=args.segmentation,
            )
        ]

    if args.task == 'overfit':
        frames = real(OVERFIT, 1)
        return frames, frames
    return real(REAL_TRAIN), real(REAL_VAL)


def _line(path: Path, result: dict[str, Any]) -> str:
    parts = [f'{path.parent.name}/{path.stem}: train {_pair(result["train"])}']
    for prior, found in result['val'].items():
        parts.append(f'{prior} ' + ', '.join(f'{k} {_pair(v)}' for k, v in found.items()))
    return '; '.join(parts) + f'; {result["train_s"]:.0f} s\n'


def _pair(scores: dict[str, float]) -> str:
    return f'{scores["iou"]:.1f}/{scores["miou"]:.1f}'


if __name__ == '__main__':
    sys.exit(main())
