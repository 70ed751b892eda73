"""Fuzz the parsers: python -m fuzz TARGET... --minutes 10 --out FOLDER.

Each target runs in a process of its own, one after the other. Needs atheris (Linux). See
docs/fuzzing.md.
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

TARGETS = ('voxel_files', 'text_files', 'raw_drives', 'configs', 'messages', 'archives')
CORPUS = Path(__file__).parent / 'corpus'
KEPT_BYTES = 20_000
"""Of a target, unpacked: the smallest inputs, which reach most of the branches."""


def main() -> int:
    """Run the targets; return 1 where one of them found something."""
    parser = argparse.ArgumentParser(prog='python -m fuzz', description=__doc__)
    parser.add_argument('targets', nargs='*', metavar='TARGET', help=f'of {TARGETS}')
    parser.add_argument('--minutes', type=float, default=10.0)
    parser.add_argument('--out', type=Path, default=Path('fuzz_output'))
    parser.add_argument('--keep', action='store_true', help='put what OUT has into fuzz/corpus')
    parser.add_argument('--scratch', type=Path, help='run one target here, with this folder')
    args = parser.parse_args()
    unknown = set(args.targets) - set(TARGETS)
    if unknown:
        parser.error(f'unknown targets {sorted(unknown)}, known: {TARGETS}')
    if args.scratch:
        run_here(args.targets[0], args.out, args.scratch, round(60 * args.minutes))
    if args.keep:
        for name in args.targets or TARGETS:
            keep(name, args.out)
        return 0
    return max(in_process(name, args) for name in args.targets or TARGETS)


def in_process(name: str, args: argparse.Namespace) -> int:
    """Fuzz one target in a child; its words go to OUT/NAME.log. Return 1 with findings."""
    args.out.mkdir(parents=True, exist_ok=True)
    words = [sys.executable, '-m', 'fuzz', name, '--minutes', str(args.minutes)]
    with (
        (args.out / f'{name}.log').open('wb') as log,
        tempfile.TemporaryDirectory(dir=_memory_folder()) as scratch,
    ):
        words += ['--out', str(args.out), '--scratch', scratch]
        done = subprocess.run(words, stderr=log, stdout=log)
    findings = sorted((args.out / name / 'findings').glob('*'))
    last = (args.out / f'{name}.log').read_text(errors='replace').strip().splitlines()[-1:]
    sys.stdout.write(
        f'{name}: exit {done.returncode}, {len(findings)} files of findings, {last}\n'
    )
    return int(bool(findings) or done.returncode != 0)


def run_here(name: str, out: Path, scratch: Path, seconds: int) -> None:
    """Import one target with instrumentation, write its seeds, fuzz it; ends the process."""
    import atheris

    from fuzz import harness

    with atheris.instrument_imports(include=harness.INSTRUMENTED):
        target = importlib.import_module(f'fuzz.targets.{name}')
    corpus, findings = out / name / 'corpus', out / name / 'findings'
    corpus.mkdir(parents=True, exist_ok=True)
    findings.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds()):
        (corpus / f'seed{number:02d}').write_bytes(seed)
    for number, kept in enumerate(kept_inputs(name)):
        (corpus / f'kept{number:04d}').write_bytes(kept)
    harness.fuzz(lambda data: target.run(data, scratch), corpus, findings, seconds)


def kept_inputs(name: str) -> list[bytes]:
    """Return the inputs that fuzz/corpus has for a target."""
    path = CORPUS / f'{name}.zip'
    if not path.is_file():
        return []
    with zipfile.ZipFile(path) as archive:
        return [archive.read(member) for member in sorted(archive.namelist())]


def keep(name: str, out: Path) -> None:
    """Write the smallest inputs that a run found, and all of its findings, into fuzz/corpus."""
    found = sorted((out / name / 'findings').glob('*.bin'))
    grown = sorted((out / name / 'corpus').glob('*'), key=lambda path: path.stat().st_size)
    inputs = {path.read_bytes() for path in found} | set(kept_inputs(name))
    for path in grown:
        if sum(map(len, inputs)) + path.stat().st_size > KEPT_BYTES:
            break
        inputs.add(path.read_bytes())
    CORPUS.mkdir(exist_ok=True)
    with zipfile.ZipFile(CORPUS / f'{name}.zip', 'w', zipfile.ZIP_DEFLATED) as archive:
        for number, content in enumerate(sorted(inputs)):
            archive.writestr(zipfile.ZipInfo(f'{number:04d}'), content, zipfile.ZIP_DEFLATED)


def _memory_folder() -> str | None:
    """Return a folder in memory where there is one: files are rewritten for each input."""
    return '/dev/shm' if Path('/dev/shm').is_dir() else None


if __name__ == '__main__':
    sys.exit(main())
