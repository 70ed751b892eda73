"""How fast the whole path is: engine, everything around it, and the node over DDS.

    python -m benchmark.speed --page docs/speed.md

from the root of the repository, some minutes on two cores; nothing else should run. Every number
stands beside one of its peer from the same run, turn by turn. --quick is for trying it out.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmark.machine import MEASURED, machine
from benchmark.speed.report import markdown
from cigocc_ros.core.files import write_atomically
from cigocc_ros.core.markdown import write_into

SECTIONS = ('engines', 'steps', 'nodes')
SETTINGS = (('mid', (192, 640), (128, 128, 16)), ('full', (384, 1280), (256, 256, 32)))
OCCUPIED = 50_000
ENGINE_ROUNDS, STEP_ROUNDS, NODE_ROUNDS, NODE_S = 20, 30, 2, 5.0
QUICK = {'engine_rounds': 3, 'step_rounds': 3, 'node_rounds': 1, 'node_s': 1.0}


def main(words: Sequence[str] | None = None) -> int:
    """Measure, write JSON, and the page where asked; return 0."""
    logging.basicConfig(level=logging.WARNING, format='%(message)s')
    logging.getLogger('benchmark').setLevel(logging.INFO)
    args = _parser().parse_args(words)
    if args.rewrite:
        result = json.loads(args.out.read_text(encoding='utf-8'))
    else:
        result = _measured(args, sys.argv[1:] if words is None else words)
    text = markdown(result)
    sys.stdout.write(text)
    if args.page:
        write_into(args.page, {MEASURED: text})
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='python -m benchmark.speed', description=(__doc__ or '').splitlines()[0]
    )
    add = parser.add_argument
    add('--out', type=Path, default=Path('benchmark/results/speed.json'), help='JSON to write')
    add('--page', type=Path, help='Markdown page to write the tables into')
    add('--rewrite', action='store_true', help='make the page again from --out, measure nothing')
    add('--sections', nargs='+', choices=SECTIONS, default=SECTIONS)
    add('--configs', nargs='+', default=['tiny', 'small', 'mid'], help='networks for the engines')
    add('--model', default='mid', help='model of the node')
    add('--sequence', type=Path, help='KITTI folder whose first image is sent (default: drawn)')
    add('--threads', type=int, default=len(os.sched_getaffinity(0)), help='of the network')
    add('--work', type=Path, default=Path('runs/speed'), help='folder of exported networks')
    add('--engine-rounds', type=int, default=ENGINE_ROUNDS)
    add('--step-rounds', type=int, default=STEP_ROUNDS)
    add('--node-rounds', type=int, default=NODE_ROUNDS)
    add('--node-s', type=float, default=NODE_S, help='seconds per load and turn')
    parser.add_argument('--quick', action='store_true', help='few turns, for a first look')
    return parser


def _measured(args: argparse.Namespace, words: Sequence[str]) -> dict[str, Any]:
    if args.quick:
        vars(args).update(QUICK)
    result: dict[str, Any] = {
        'machine': machine(),
        'command': shlex.join(['python', '-m', 'benchmark.speed', *words]),
        'threads': args.threads,
    }
    started_s = time.monotonic()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    for name, run in (('engines', _engines), ('steps', _steps), ('nodes', _nodes)):
        if name in args.sections:
            result[name] = run(args)
            result['seconds'] = round(time.monotonic() - started_s, 1)
            write_atomically(args.out, json.dumps(result, indent=1) + '\n')
    return result


def _engines(args: argparse.Namespace) -> dict[str, Any]:
    from benchmark.speed.engines import run_engines

    return run_engines(args.configs, args.work, args.threads, args.engine_rounds)


def _steps(args: argparse.Namespace) -> dict[str, Any]:
    from benchmark.speed.publishing import heard_publishers, use_ros_environment
    from benchmark.speed.steps import Setting, run_steps

    frame, results = _frame(args), {}
    with heard_publishers(use_ros_environment()) as publish:
        for name, image_size, shape in SETTINGS:
            setting = Setting(name, image_size, shape, OCCUPIED, frame)
            size = 'x'.join(str(n) for n in shape)
            results[f'{size}, {OCCUPIED} occupied'] = run_steps(setting, args.step_rounds, publish)
    return results


def _nodes(args: argparse.Namespace) -> dict[str, Any]:
    from benchmark.speed.node import run_nodes
    from benchmark.speed.scene import stored_answers, street
    from cigocc_ros.runtime.predictor import find_model_dir

    _, image_size, shape = SETTINGS[0]
    stored = stored_answers(args.work / 'stored', image_size, street(shape, OCCUPIED))
    models = {'stored answers': stored, args.model: find_model_dir(args.model)}
    return run_nodes(models, _frame(args), args.threads, args.node_rounds, args.node_s)


def _frame(args: argparse.Namespace) -> Any:
    from benchmark.speed.scene import first_frame, street_frame

    return first_frame(args.sequence) if args.sequence else street_frame(args.work / 'street')


if __name__ == '__main__':
    sys.exit(main())
