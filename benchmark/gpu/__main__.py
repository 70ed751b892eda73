"""Everything that only a GPU can tell, as one list that runs within a budget of time.

    python -m benchmark.gpu --out benchmark/results/gpu.json --page docs/gpu.md

from the root of the repository. Every step is a process: one that fails, hangs or crashes is
reported and the others run. Results are written after each step.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmark.gpu.plan import Outcome, Step, run_plan
from benchmark.gpu.report import markdown
from benchmark.machine import MEASURED, machine
from cigocc_ros.core.files import write_atomically
from cigocc_ros.core.markdown import write_into

REPOSITORY = Path(__file__).resolve().parents[2]
RTX_PYTHON = REPOSITORY / '.rtx/1.4.0.76/bin/python'
BUDGET_S = 560.0
"""Ten minutes, less what a machine needs to hand the files back."""


def main(words: Sequence[str] | None = None) -> int:
    """Run the list, write JSON and the page; return 0 even where steps failed."""
    logging.basicConfig(level=logging.INFO, format='%(message)s')
    args = _parser().parse_args(words)
    result = json.loads(args.out.read_text()) if args.rewrite else _measured(args)
    text = markdown(result)
    sys.stdout.write(text)
    if args.page:
        write_into(args.page, {MEASURED: text})
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='python -m benchmark.gpu', description=(__doc__ or '').splitlines()[0]
    )
    add = parser.add_argument
    add('--out', type=Path, required=True, help='JSON to write')
    add('--page', type=Path, help='Markdown page to write the tables into')
    add('--rewrite', action='store_true', help='make the page again from --out')
    add('--device', default='cuda', help='of torch; cpu to try the list out')
    add('--configs', nargs='+', default=['full', 'mid'])
    add('--checkpoints', nargs='*', default=[], metavar='CONFIG=FOLDER', help='trained weights')
    add('--frames', type=Path, default=_real_frames(), help='KITTI folder for the numerics')
    add('--count', type=int, default=50, help='most frames of the numerics')
    add('--model', default='mid', help='shipped model or folder for TensorRT')
    add('--rtx-python', type=Path, default=RTX_PYTHON, help='Python that has TensorRT-RTX')
    add('--runs', type=int, default=200, help='timings of each kind')
    add('--compiler', default='inductor', help='of torch.compile')
    add('--budget-s', type=float, default=BUDGET_S)
    add('--only', nargs='+', metavar='WORD', help='steps whose name has one of these words')
    add('--work', type=Path, default=Path('runs/gpu'), help='folder of engines and exports')
    return parser


def _real_frames() -> Path:
    named = os.environ.get('CIGOCC_SHARED')
    return (Path(named) if named else REPOSITORY.parent / 'shared') / 'data/kitti_mini'


def _measured(args: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {'machine': machine(), 'device': args.device, 'steps': []}
    args.out.parent.mkdir(parents=True, exist_ok=True)

    def save(outcomes: list[Outcome]) -> None:
        found['steps'] = [outcome.to_dict() for outcome in outcomes]
        write_atomically(args.out, json.dumps(found, indent=1) + '\n')

    run_plan(planned(args), args.work / 'steps', args.budget_s, save)
    return found


def planned(args: argparse.Namespace) -> list[Step]:
    """Return the list, the most wanted first: what comes late may find no time left."""
    steps = [Step('device', ('device', *_torch_words(args)), 10)]
    steps += [Step(f'floor {name}', ('floor', f'--config={name}'), 5) for name in args.configs]
    steps.append(_tensorrt(args, args.model, args.model))
    for name in args.configs:
        for precision in ('fp16', 'fp32'):
            words = (*_network_words(args, name), f'--precision={precision}')
            steps.append(
                Step(
                    f'torch {name} {precision}', ('torch', *words, '--modes', 'eager', 'graph'), 15
                )
            )
    steps += [
        Step(
            f'numerics {name}',
            ('numerics', *_network_words(args, name), f'--frames={args.frames}'),
            15,
        )
        for name in args.configs
    ]
    for stages, least_s in (('--no-stages', 40), ('--stages', 60)):
        for name in args.configs:
            words = (*_network_words(args, name), '--precision=fp16', stages)
            kind = 'stages' if stages == '--stages' else 'whole'
            title = f'compiled {name} fp16 {kind}'
            steps.append(Step(title, ('torch', *words, '--modes', 'compiled'), least_s))
    steps += _tensorrt_of_configs(args)
    chosen = args.only or ['']
    return [step for step in steps if any(word in step.name for word in chosen)]


def _torch_words(args: argparse.Namespace) -> tuple[str, ...]:
    return (f'--device={args.device}', f'--runs={args.runs}', f'--count={args.count}')


def _network_words(args: argparse.Namespace, config: str) -> tuple[str, ...]:
    trained = dict(entry.split('=', 1) for entry in args.checkpoints)
    weights = (f'--checkpoint={trained[config]}',) if config in trained else ()
    return (f'--config={config}', f'--compiler={args.compiler}', *_torch_words(args), *weights)


def _tensorrt(args: argparse.Namespace, name: str, model: str) -> Step:
    python = _tensorrt_python(args.rtx_python)
    words = (f'--model={model}', f'--runs={args.runs}', f'--work={args.work / "engines"}')
    return Step(f'tensorrt {Path(name).name}', ('tensorrt', *words), 20, python)


def _tensorrt_python(rtx_python: Path) -> str:
    """Return this Python where it has TensorRT, else the one with TensorRT-RTX where there is."""
    import importlib.util

    here = any(importlib.util.find_spec(name) for name in ('tensorrt', 'tensorrt_rtx'))
    return sys.executable if here or not rtx_python.is_file() else str(rtx_python)


def _tensorrt_of_configs(args: argparse.Namespace) -> list[Step]:
    """Return steps for configs that no model was shipped of: exported with random weights."""
    steps = []
    for name in args.configs:
        if name == args.model:
            continue
        folder = args.work / f'{name}_random'
        words = ('export', f'--config={name}', f'--model={folder}')
        steps += [Step(f'export {name}', words, 60), _tensorrt(args, f'{name}_random', folder)]
    return steps


if __name__ == '__main__':
    sys.exit(main())
