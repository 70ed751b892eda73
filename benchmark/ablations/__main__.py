"""Which part of the network helps: train every variant with equal budgets, score, tabulate.

    cigocc synthesize streets/train --sequences 55 --frames 6 --width 640 --step-m 7 --seed 52000
    cigocc synthesize streets/val --sequences 4 --frames 4 --width 640 --step-m 8 --seed 90000
    python -m benchmark.ablations --data streets/train --val streets/val --out runs/ablations \
        --real DATASET --ground-truth VOLUMES --sequences 05 --table docs/ablations.md

from the root of the repository. Runs lie in OUT/VARIANT/seedN; finished ones are not repeated, so
a stopped study goes on where it was. Without --real only the streets are scored. Without --data
the table is made again from the runs in OUT.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from benchmark.ablations.runs import Study, load_results
from benchmark.ablations.scoring import RealFrames
from benchmark.ablations.table import markdown
from benchmark.ablations.variants import Variant, load_variants
from benchmark.machine import MEASURED
from cigocc_ros.core.config import ModelConfig, load_model_config
from cigocc_ros.core.markdown import write_into
from cigocc_ros.training.cache import FrameRef, find_frames
from cigocc_ros.training.config import TrainConfig, load_train_config
from cigocc_ros.training.preparation import prepare_frames

TRAIN_FILE = Path(__file__).with_name('train.yaml')
logger = logging.getLogger('benchmark.ablations')


def main(words: Sequence[str] | None = None) -> int:
    """Run what is missing, print the table and write it where asked; return 0."""
    logging.basicConfig(level=logging.INFO, format='%(message)s')
    args = _parser().parse_args(words)
    variants = load_variants()
    if args.data is not None:
        _run_all(args, [variants[name] for name in args.variants or variants])
    table = markdown(load_results(args.out), variants)
    sys.stdout.write(table)
    if args.table is not None:
        write_into(args.table, {MEASURED: table})
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='python -m benchmark.ablations', description=(__doc__ or '').splitlines()[0]
    )
    parser.add_argument('--data', type=Path, help='streets to train on')
    parser.add_argument('--val', type=Path, help='streets to score on')
    parser.add_argument('--real', type=Path, help='data set with real frames to score on')
    parser.add_argument(
        '--ground-truth', type=Path, help='of the real frames (default: in --real)'
    )
    parser.add_argument('--sequences', nargs='+', default=[], help='real ones (default: all)')
    parser.add_argument('--out', type=Path, default=Path('runs/ablations'), help='the runs')
    parser.add_argument('--cache', type=Path, help='folder of prepared frames (default: the data)')
    parser.add_argument('--table', type=Path, help='page to write the table into')
    parser.add_argument('--variants', nargs='+', choices=list(load_variants()), help='only these')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--steps', type=int, help='optimiser steps, instead of train.yaml')
    parser.add_argument('--model', default='small', help='the full network (default small)')
    parser.add_argument('--threads', type=int, default=1, help='CPU threads (default 1)')
    return parser


def _run_all(args: argparse.Namespace, variants: Sequence[Variant]) -> None:
    """Train seed by seed, so that a study cut short compares all variants."""
    if args.val is None:
        raise SystemExit('--data needs --val: streets that the networks are scored on')
    torch.set_num_threads(args.threads)
    model = load_model_config(args.model)
    study = Study(
        model=model,
        train=_train_config(args.steps),
        train_frames=_prepared(args.data, model, args),
        val_frames=_prepared(args.val, model, args),
        real=_real(args),
        out=args.out,
        threads=args.threads,
    )
    for seed in args.seeds:
        for variant in variants:
            iou = study.run(variant, seed)['synthetic']['stereo']['iou']
            logger.info('%s, seed %d: IoU %.1f %%', variant.name, seed, 100 * iou)


def _train_config(steps: int | None) -> TrainConfig:
    config = load_train_config(TRAIN_FILE)
    return config if steps is None else replace(config, steps=steps)


def _prepared(root: Path, model: ModelConfig, args: argparse.Namespace) -> list[FrameRef]:
    frames = find_frames(root, model, args.cache)
    for _ in prepare_frames(frames, model, args.threads):
        pass
    return frames


def _real(args: argparse.Namespace) -> RealFrames | None:
    if args.real is None:
        return None
    return RealFrames.read(args.real, args.ground_truth or args.real, args.sequences)


if __name__ == '__main__':
    sys.exit(main())
