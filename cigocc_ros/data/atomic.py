"""Write a file so that a reader sees the old one or the whole new one, never a part."""

from __future__ import annotations

import uuid
from pathlib import Path

from cigocc_ros.core.errors import DataFileError


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` beside `path` and move it there; raise DataFileError where that fails."""
    temporary = path.with_name(f'.{path.name}.{uuid.uuid4().hex}')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise DataFileError(f'{path}: cannot be written: {error.strerror or error}') from error


def read_bytes(path: Path) -> bytes:
    """Return the content of a file; raise DataFileError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataFileError(f'{path}: cannot be read: {error.strerror or error}') from error
