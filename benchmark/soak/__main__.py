"""Feed the node for a long time at the highest rate, and watch what it holds.

    python -m benchmark.soak --minutes 60 --model mid --page docs/soak.md

from the root of the repository. The node runs in a process of its own; images go over DDS, more
of them than the node can take. Ends with 1 where a curve is not flat or an image is unaccounted.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmark.machine import MEASURED, machine
from benchmark.soak.report import is_good, markdown, picture
from benchmark.soak.run import soak
from cigocc_ros.core.files import write_atomically
from cigocc_ros.core.markdown import write_into


def main(words: Sequence[str] | None = None) -> int:
    """Run, write JSON and curves, and the page where asked; return 0 where all is well."""
    logging.basicConfig(level=logging.WARNING, format='%(message)s')
    logging.getLogger('benchmark').setLevel(logging.INFO)
    args = _parser().parse_args(words)
    if args.rewrite:
        result = json.loads(args.out.read_text(encoding='utf-8'))
    else:
        found = machine()
        given = sys.argv[1:] if words is None else words
        result = {
            'machine': found,
            'command': shlex.join(['python', '-m', 'benchmark.soak', *given]),
            **soak(args.model, 60 * args.minutes, args.rate, args.threads, args.logs),
        }
        args.out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(args.out, json.dumps(result, indent=1) + '\n')
    svg = (args.page or args.out).with_suffix('.svg')
    write_atomically(svg, picture(result))
    text = markdown(result, svg.name)
    sys.stdout.write(text)
    if args.page:
        write_into(args.page, {MEASURED: text})
    return 0 if is_good(result) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='python -m benchmark.soak', description=(__doc__ or '').splitlines()[0]
    )
    add = parser.add_argument
    add('--minutes', type=float, default=60.0)
    add('--model', default='mid', help='name of a shipped model, or a folder')
    add('--rate', type=float, help='images a second (default: half as many again as it can take)')
    add('--threads', type=int, default=len(os.sched_getaffinity(0)), help='of the network')
    add('--out', type=Path, default=Path('benchmark/results/soak.json'), help='JSON to write')
    add('--page', type=Path, help='Markdown page to write into, the curves beside it')
    add('--rewrite', action='store_true', help='make the page again from --out')
    add('--logs', type=Path, default=Path('runs/soak'), help='folder of the log of the node')
    return parser


if __name__ == '__main__':
    sys.exit(main())
