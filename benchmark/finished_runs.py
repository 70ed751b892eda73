"""Runs of an experiment that are files OUT/KIND/VARIANT-seedN.json, as Markdown tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cigocc_ros.core.errors import DataFileError

Runs = Sequence[dict[str, Any]]


def tables(out: Path, kind: str, table: Callable[[str, Runs], str]) -> str:
    """Return one table for each value of `kind`; raise DataFileError if no run is finished."""
    runs = [json.loads(path.read_text(encoding='utf-8')) for path in sorted(out.glob('*/*.json'))]
    if not runs:
        raise DataFileError(f'no {out}/{kind.upper()}/VARIANT-seedN.json: no run is finished')
    values = sorted({run[kind] for run in runs})
    return '\n'.join(table(one, [run for run in runs if run[kind] == one]) for one in values)
