"""Write a file so that a reader sees the old one or the whole new one, never a part."""

from __future__ import annotations

import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cigocc_ros.core.errors import DataFileError

MAX_FILE_BYTES = 2_000_000_000


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


def read_bytes(path: Path, at_most: int = MAX_FILE_BYTES) -> bytes:
    """Return the content of a file; raise DataFileError where it cannot be read.

    What is larger than `at_most` bytes, or is no plain file (a pipe, a device), is not read.
    """
    try:
        with open(path, 'rb', opener=_open_at_once) as stream:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise DataFileError(f'{path}: cannot be read: expected a plain file')
            if status.st_size > at_most:
                raise DataFileError(
                    f'{path}: expected at most {at_most} bytes, found {status.st_size}: '
                    'the file is of another kind, or damaged'
                )
            return stream.read(status.st_size)
    except (OSError, ValueError) as error:
        if isinstance(error, DataFileError):
            raise
        reason = getattr(error, 'strerror', None) or error
        raise DataFileError(f'{path}: cannot be read: {reason}') from error


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting for the other end of a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)
