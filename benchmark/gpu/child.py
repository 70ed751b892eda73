"""One step of the list, in this process: `python -m benchmark.gpu.child STEP ...`."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmark.gpu.plan import ABSENT_CODE, AbsentError, Save
from cigocc_ros.core.files import write_atomically


def main(words: Sequence[str] | None = None) -> int:
    """Run a step; write what it found whenever it found more."""
    logging.basicConfig(level=logging.WARNING)
    args = _parser().parse_args(words)

    def save(found: dict[str, Any]) -> None:
        write_atomically(args.result, json.dumps(found))

    try:
        STEPS[args.step](args, save)
    except AbsentError as error:
        sys.stderr.write(f'{error}\n')
        return ABSENT_CODE
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    add = parser.add_argument
    add('step', choices=list(STEPS))
    add('--result', type=Path, required=True)
    add('--device', default='cuda')
    add('--config', default='mid')
    add('--checkpoint', type=Path)
    add('--parts', nargs='+', default=[])
    add('--left-s', type=float, default=600.0)
    add('--compiler', default='inductor')
    add('--runs', type=int, default=200)
    add('--frames', type=Path)
    add('--count', type=int, default=50)
    add('--model', type=Path)
    add('--work', type=Path)
    return parser


def _network(args: argparse.Namespace, save: Save) -> None:
    from benchmark.gpu.parts import run_parts

    run_parts(args, save)


def _export(args: argparse.Namespace, save: Save) -> None:
    from benchmark.gpu.networks import export_random

    save({'folder': str(export_random(args.config, args.model))})


def _tensorrt(args: argparse.Namespace, save: Save) -> None:
    from benchmark.gpu.tensorrt import run_tensorrt

    run_tensorrt(args, save)


STEPS: dict[str, Callable[[argparse.Namespace, Save], None]] = {
    'network': _network,
    'export': _export,
    'tensorrt': _tensorrt,
}

if __name__ == '__main__':
    sys.exit(main())
