"""Train on a GPU host that is there for minutes, and bring home what was learnt.

    python -m benchmark.gpu.train --data SHARDS --out OUT --minutes 9.5 --init CHECKPOINT

from the root of the repository: the facts of the GPU (`python -m benchmark.gpu --quick`), then
`cigocc train` until shortly before the end, then the weights in float16 and in parts. OUT holds
the weights of the last checkpoint at any time, for a host that ends everything at once; SIGTERM
ends the training with a last one. Words after `--` go to `cigocc train`.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from cigocc_ros.core.errors import CigoccError
from cigocc_ros.core.files import replacing
from cigocc_ros.training.stopping import SIGNAL_EXIT, SIGNALS

logger = logging.getLogger(__name__)

REPOSITORY = Path(__file__).resolve().parents[2]
LIST_FILE, TRAIN_LOG, WEIGHTS_FOLDER = 'gpu.json', 'train.log', 'weights'
BROUGHT_HOME = ('log.jsonl', 'run.json')
PART_MIB, MAX_FILES = 16.0, 8
"""What a host gives back: files of at most so many MiB, and so many of them."""
START_S, END_S = 20.0, 25.0
"""Of importing, decoding frames and compiling kernels; of the last checkpoint and its float16."""
POLL_S = 2.0


def main(words: Sequence[str] | None = None) -> int:
    """List, train, write; return the exit status of the training."""
    logging.basicConfig(level=logging.INFO, format='%(message)s')
    given = list(sys.argv[1:] if words is None else words)
    more = given[given.index('--') + 1 :] if '--' in given else []
    args = _parser().parse_args(given[: given.index('--')] if '--' in given else given)
    ends_s = time.monotonic() + 60 * args.minutes
    args.out.mkdir(parents=True, exist_ok=True)
    if not args.no_list:
        make_list(args)
    status = train(args, ends_s, more)
    report(args.out)
    if status:
        logger.warning('the training ended with status %d: see %s', status, args.out / TRAIN_LOG)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='python -m benchmark.gpu.train', description=(__doc__ or '').splitlines()[0]
    )
    add = parser.add_argument
    add('--data', action='append', required=True, metavar='SHARDS[:WEIGHT]', help='as of train')
    add('--out', type=Path, required=True, help='folder of what is brought home')
    add('--minutes', type=float, default=9.5, help='for all of it (default %(default)s)')
    add('--val', help='shards to validate with')
    add('--init', type=Path, help='checkpoint to go on from, such as models/mid')
    add('--backbone', help='as of train, without --init')
    add('--model', default='mid')
    add('--config', default='gpu')
    add('--device', choices=('cuda', 'cpu'), default='cuda', help='cpu to try it out')
    add('--work', type=Path, default=Path('runs/gpu_train'), help='folder of the run itself')
    add('--no-list', action='store_true', help='leave out the facts of the GPU')
    add('--runs', type=int, default=50, help='timings of each kind in the list')
    return parser


def make_list(args: argparse.Namespace) -> None:
    """Write the facts of the GPU; a list that fails costs only itself."""
    words = ['--quick', f'--out={args.out / LIST_FILE}', f'--device={args.device}']
    words += [f'--runs={args.runs}', f'--work={args.work / "list"}']
    done = subprocess.run(
        [sys.executable, '-m', 'benchmark.gpu', *words], env=_environment(), stdout=sys.stderr
    )
    if done.returncode:
        logger.warning(
            'the list ended with status %d; training starts all the same', done.returncode
        )


def train(args: argparse.Namespace, ends_s: float, more: Sequence[str]) -> int:
    """Train until shortly before `ends_s` of the monotonic clock; return the exit status."""
    left_s = ends_s - time.monotonic() - START_S - END_S
    if left_s <= 0:
        logger.error('%.0f s are left after the list: too few to train', left_s + START_S + END_S)
        return 2
    run = args.work / 'run'
    shutil.rmtree(run, ignore_errors=True)
    command = [sys.executable, '-m', 'cigocc_ros.commands.main', 'train', *train_words(args, run)]
    command += [f'--time-budget-min={left_s / 60:.3f}', *more]
    logger.info('%s', ' '.join(command))
    with (args.out / TRAIN_LOG).open('w') as log:
        child = subprocess.Popen(command, env=_environment(), stdout=log, stderr=log)
        return Watched(child, run, args.out).wait(ends_s - END_S)


def train_words(args: argparse.Namespace, run: Path) -> list[str]:
    """Return what `cigocc train` is told, but for the time."""
    words = [f'--data={one}' for one in args.data]
    words += [f'--model={args.model}', f'--config={args.config}', '--stage=joint', f'--out={run}']
    words += [f'--accelerator={args.device}']
    for name in ('val', 'init', 'backbone'):
        value = getattr(args, name)
        words += [] if value is None else [f'--{name}={value}']
    return words


@dataclass
class Watched:
    """A training whose results are brought home while it runs."""

    child: subprocess.Popen[bytes]
    run: Path
    out: Path
    written_ns: int = 0

    def wait(self, until_s: float) -> int:
        """Return the exit status; SIGTERM at `until_s`, or when this process gets one."""
        before = {one: signal.signal(one, self._pass_on) for one in SIGNALS}
        told = False
        try:
            while self.child.poll() is None:
                self.bring_home()
                if not told and time.monotonic() > until_s:
                    told = True
                    self.child.terminate()
                time.sleep(POLL_S)
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)
        self.bring_home()
        status = self.child.returncode
        status = status if status >= 0 else SIGNAL_EXIT - status  # before it could handle signals
        planned = told and status == SIGNAL_EXIT + signal.SIGTERM and self.written_ns > 0
        return 0 if planned else status

    def bring_home(self) -> None:
        """Write the weights of the last checkpoint, where it is new, and the records."""
        from cigocc_ros.model.build import load_checkpoint, save_checkpoint
        from cigocc_ros.model.weight_files import WEIGHTS_FILE, read_record

        latest = self.run / 'latest'
        try:
            changed_ns = (latest / WEIGHTS_FILE).stat().st_mtime_ns
        except OSError:
            return
        if changed_ns == self.written_ns:
            return
        try:
            model, record = load_checkpoint(latest), read_record(latest)
            save_checkpoint(model, self.out / WEIGHTS_FOLDER, record, 'fp16', PART_MIB)
        except CigoccError as error:
            logger.warning('the checkpoint is not brought home: %s', error)
        self.written_ns = changed_ns
        for name in BROUGHT_HOME:
            if (self.run / name).is_file():
                with replacing(self.out / name) as partial:
                    shutil.copyfile(self.run / name, partial)

    def _pass_on(self, number: int, _: FrameType | None) -> None:
        if self.child.poll() is None:
            self.child.send_signal(number)


def report(out: Path) -> None:
    """Say what lies in the folder, and what of it a host would not give back."""
    files = sorted(path for path in out.rglob('*') if path.is_file())
    for path in files:
        logger.info('%s: %.2f MiB', path, path.stat().st_size / 2**20)
    large = [path for path in files if path.stat().st_size > PART_MIB * 2**20]
    if large or len(files) > MAX_FILES:
        logger.warning(
            'a host that returns %d files of %.0f MiB leaves some behind: %d files, larger: %s',
            MAX_FILES,
            PART_MIB,
            len(files),
            [path.name for path in large],
        )


def _environment() -> dict[str, str]:
    paths = filter(None, (str(REPOSITORY), os.environ.get('PYTHONPATH', '')))
    return {**os.environ, 'PYTHONPATH': os.pathsep.join(paths)}


if __name__ == '__main__':
    sys.exit(main())
