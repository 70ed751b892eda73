"""Room for engines and logs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from cigocc_ros.core.findings import Finding, fail, ok, warn

ENGINE_ROOM_BYTES = 2_000_000_000
"""An engine of the largest network, its timing cache, and the next one beside it."""
LEAST_ROOM_BYTES = 200_000_000
"""Below this, logs and the engine of the small network do not fit either."""


def check_disk(folder: Path, free_bytes: int | None = None) -> Finding:
    """Check free space where engines are written; `free_bytes` replaces what the disk says."""
    present = next(path for path in (folder, *folder.resolve().parents) if path.is_dir())
    free = shutil.disk_usage(present).free if free_bytes is None else free_bytes
    found = f'{free / 1e9:.1f} GB free in {present}'
    mend = f'make room in {present}, or name another folder (tensorrt.engine_dir)'
    if free < LEAST_ROOM_BYTES:
        return fail('disk', found, f'{LEAST_ROOM_BYTES / 1e9:.1f} GB at least', mend)
    if free < ENGINE_ROOM_BYTES:
        return warn('disk', found, f'{ENGINE_ROOM_BYTES / 1e9:.1f} GB for engines', mend)
    return ok('disk', found)


def check_writable(folder: Path) -> Finding:
    """Check that engines can be written; asked only where TensorRT runs."""
    present = next(path for path in (folder, *folder.resolve().parents) if path.is_dir())
    if os.access(present, os.W_OK):
        return ok('engine folder', f'{folder} can be written')
    return warn(
        'engine folder',
        f'{present} cannot be written by you',
        'a folder that the builder can write',
        'name another one: tensorrt.engine_dir:=FOLDER, cigocc build-engine --engine-dir FOLDER',
    )
