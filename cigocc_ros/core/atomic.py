"""Write a file so that a reader sees the old one or the whole new one, never a part."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cigocc_ros.core.errors import DataFileError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; it replaces `path` when the block ends.

    Nothing is left of it when the block raises. Raises DataFileError where writing fails.
    """
    temporary = path.with_name(f'.{path.name}.{uuid.uuid4().hex}')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise DataFileError(f'{path}: cannot be written: {error.strerror or error}') from error


def write_atomically(path: Path, content: bytes | str) -> None:
    """Replace `path` by `content`, text as UTF-8; raise DataFileError where that fails."""
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def read_bytes(path: Path) -> bytes:
    """Return the content of a file; raise DataFileError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataFileError(f'{path}: cannot be read: {error.strerror or error}') from error
