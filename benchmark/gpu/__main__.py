"""Everything that only a GPU can tell, as one list that runs within a budget of time.

    python -m benchmark.gpu --out benchmark/results/gpu.json --page docs/gpu.md

from the root of the repository. Every network is a process, and so is every TensorRT engine: one
that fails, hangs or crashes is reported and the others run. Results are written after each part.
Nothing outside the repository is needed. --quick gives the facts within 100 seconds.
"""

from __future__ import annotations

import argparse
import json
import logging
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
QUICK_BUDGET_S, QUICK_RUNS = 95.0, 50
FIRST, LAST = ('floor', 'torch fp16', 'numerics'), ('torch fp32', 'compiled fp16 stages')
COMPILED_WHOLE = 'compiled fp16 whole'


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
    add('--frames', type=Path, help='KITTI folder for the numerics (default: own frames)')
    add('--count', type=int, default=50, help='most frames of the numerics')
    add('--model', default='mid', help='shipped model or folder for TensorRT')
    add('--rtx-python', type=Path, default=RTX_PYTHON, help='Python that has TensorRT-RTX')
    add('--runs', type=int, default=200, help='timings of each kind')
    add('--compiler', default='inductor', help='of torch.compile')
    add('--budget-s', type=float, default=BUDGET_S)
    add('--quick', action='store_true', help='the facts alone, within 100 s')
    add('--only', nargs='+', metavar='WORD', help='steps whose name has one of these words')
    add('--work', type=Path, default=Path('runs/gpu'), help='folder of engines and exports')
    return parser


def _measured(args: argparse.Namespace) -> dict[str, Any]:
    if args.quick:
        args.budget_s = min(args.budget_s, QUICK_BUDGET_S)
        args.runs = min(args.runs, QUICK_RUNS)
    found: dict[str, Any] = {'machine': machine(), 'device': args.device, 'steps': []}
    args.out.parent.mkdir(parents=True, exist_ok=True)

    def save(outcomes: list[Outcome]) -> None:
        found['steps'] = [outcome.to_dict() for outcome in outcomes]
        write_atomically(args.out, json.dumps(found, indent=1) + '\n')

    run_plan(planned(args), args.work / 'steps', args.budget_s, save)
    return found


def planned(args: argparse.Namespace) -> list[Step]:
    """Return the list, the most wanted first: what comes late may find no time left."""
    if args.quick:
        quick = [
            _network(args, name, _quick_parts(name, args.configs)) for name in args.configs[::-1]
        ]
        return _chosen(args, quick)
    steps = [
        _network(args, name, (*_device(name, args.configs), *FIRST, COMPILED_WHOLE, *LAST))
        for name in args.configs
    ]
    return _chosen(
        args, [_tensorrt(args, args.model, args.model), *steps, *_tensorrt_of_configs(args)]
    )


def _chosen(args: argparse.Namespace, steps: list[Step]) -> list[Step]:
    words = args.only or ['']
    return [step for step in steps if any(word in step.name for word in words)]


def _quick_parts(name: str, configs: Sequence[str]) -> tuple[str, ...]:
    """The smallest network first, which is compiled too; the others as time is left."""
    first = name == configs[-1]
    return ('device', *FIRST, COMPILED_WHOLE, LAST[-1]) if first else FIRST


def _device(name: str, configs: Sequence[str]) -> tuple[str, ...]:
    return ('device',) if name == configs[0] else ()


def _network(args: argparse.Namespace, config: str, parts: Sequence[str]) -> Step:
    trained = dict(entry.split('=', 1) for entry in args.checkpoints)
    words = [f'--config={config}', f'--compiler={args.compiler}', f'--device={args.device}']
    words += [f'--runs={args.runs}', f'--count={args.count}']
    words += [f'--checkpoint={trained[config]}'] if config in trained else []
    words += [f'--frames={args.frames}'] if args.frames else []
    return Step(f'network {config}', ('network', *words, '--parts', *parts), 15)


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
