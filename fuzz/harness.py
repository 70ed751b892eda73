"""Run one target under atheris: guided by the branches of the package, every finding kept."""

from __future__ import annotations

import hashlib
import logging
import resource
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import atheris

MEMORY_BYTES = 1 << 30
"""Address space beyond what is in use at the start: a larger allocation is a finding."""
RESIDENT_BYTES = 1 << 28
INPUT_BYTES = 4096
INPUT_SECONDS = 10
INSTRUMENTED = ['cigocc_ros', 'yaml']
Run = Callable[[bytes], None]


class Findings:
    """Unexpected exceptions, one file for each place that raises one."""

    def __init__(self, folder: Path) -> None:
        """Take the folder for the inputs and their tracebacks."""
        self._folder, self._seen = folder, set[str]()

    def add(self, data: bytes, error: Exception) -> None:
        """Keep input and traceback unless this place has been found before."""
        frames = [f for f in traceback.extract_tb(error.__traceback__) if 'cigocc' in f.filename]
        place = '|'.join([type(error).__name__, *(f'{f.filename}:{f.lineno}' for f in frames)])
        name = hashlib.sha256(place.encode()).hexdigest()[:12]
        if name in self._seen:
            return
        self._seen.add(name)
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / f'{name}.bin').write_bytes(data)
        text = ''.join(traceback.format_exception(error)[-12:])
        (self._folder / f'{name}.txt').write_text(text[-20_000:], encoding='utf-8')
        sys.stderr.write(f'FINDING {name}: {type(error).__name__}: {str(error)[:200]}\n')


def _peak_bytes() -> int:
    """Return the most memory that was ever resident, that of C libraries included."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def limit_memory() -> None:
    """Make large allocations raise MemoryError."""
    pages = int(Path('/proc/self/statm').read_text(encoding='ascii').split()[0])
    used = pages * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, resource.RLIM_INFINITY))


def fuzz(run: Run, corpus: Path, findings: Path, seconds: int) -> None:
    """Fuzz for `seconds`; the corpus grows in its folder. Ends the process."""
    logging.disable(logging.CRITICAL)
    found = Findings(findings)

    def one(data: bytes) -> None:
        before = _peak_bytes()
        try:
            run(data)
            if _peak_bytes() - before > RESIDENT_BYTES:
                raise MemoryError(f'{(_peak_bytes() - before) / 1e6:.0f} MB became resident')
        except Exception as error:
            found.add(data, error)

    words = [
        sys.argv[0],
        str(corpus),
        f'-max_total_time={seconds}',
        f'-max_len={INPUT_BYTES}',
        f'-timeout={INPUT_SECONDS}',
        '-rss_limit_mb=4096',
        '-print_final_stats=1',
        f'-artifact_prefix={findings}/',
    ]
    atheris.Setup(words, one)
    limit_memory()
    atheris.Fuzz()
