"""Which code runs."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path


@functools.cache
def code_commit() -> str | None:
    """Return the git commit of the source tree, '+' where it has changes; None without git.

    What is found first is kept: it is what the process has loaded.
    """
    package = Path(__file__).resolve().parents[1]
    try:
        commit, changes = (
            subprocess.run(
                ['git', '-C', str(package), *arguments],
                capture_output=True,
                check=True,
                text=True,
                timeout=10,
            ).stdout.strip()
            for arguments in (['rev-parse', 'HEAD'], ['status', '--porcelain', '-uno', '.'])
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ('+' if changes else '')
