"""Arrays: their types by one name each, and .npz and .npy files of plain numbers.

Files are read without pickle, and with no more memory than allowed.
"""

from __future__ import annotations

import io
import math
import tokenize
import zipfile
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.files import read_bytes, replacing
from cigocc_ros.core.text import cut

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]
Arrays = dict[str, NDArray[Any]]
"""By name, as a file or a network has them."""
MAX_ARRAY_BYTES = 1_000_000_000
"""Of all arrays of a file together, unpacked."""
MAX_ARRAYS = 1000
FASTEST, COMPACT = 1, 6
"""Levels of zlib; depth and labels pack almost as well at the first."""
SUFFIX = '.npy'
UNREADABLE = (
    EOFError,
    KeyError,
    NotImplementedError,  # a method of compression that zipfile does not know
    OSError,
    OverflowError,
    RuntimeError,  # encrypted
    SyntaxError,
    TypeError,
    ValueError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What zipfile and numpy raise for files that are none of theirs."""


def read_arrays(
    path: Path, names: Collection[str] | None = None, at_most: int = MAX_ARRAY_BYTES
) -> dict[str, NDArray[Any]]:
    """Return the arrays of an .npz by name: all of them, or those of `names`.

    Raises DataFileError where the file is no .npz, lacks one of `names`, or has arrays of more
    than `at_most` bytes together; they are not unpacked then.
    """
    content = io.BytesIO(read_bytes(path, at_most))
    try:
        with zipfile.ZipFile(content) as archive:
            wanted = _members(archive, names)
            total = sum(info.file_size for info in wanted.values())
            if len(wanted) > MAX_ARRAYS or total > at_most:
                raise DataFileError(
                    f'{path}: expected at most {MAX_ARRAYS} arrays and {at_most} bytes, found '
                    f'{len(wanted)} and {total}'
                )
            return {name: _array(archive.read(info)) for name, info in wanted.items()}
    except DataFileError:
        raise
    except UNREADABLE as error:
        raise DataFileError(f'{path}: no .npz that can be read: {cut(str(error))}') from error


def read_array(path: Path, at_most: int = MAX_ARRAY_BYTES) -> NDArray[Any]:
    """Return the array of an .npy file; raise DataFileError."""
    content = read_bytes(path, at_most)
    try:
        return _array(content)
    except UNREADABLE as error:
        raise DataFileError(f'{path}: no .npy that can be read: {cut(str(error))}') from error


def write_arrays(
    path: Path, arrays: Mapping[str, NDArray[Any]], comment: str = '', level: int = FASTEST
) -> None:
    """Write an .npz, packed by zlib; it appears whole or not at all.

    `comment` lies at the end of the file, where `read_comment` finds it without reading the
    arrays. Raises DataFileError where writing fails.
    """
    with (
        replacing(path) as partial,
        zipfile.ZipFile(partial, 'w', zipfile.ZIP_DEFLATED, compresslevel=level) as archive,
    ):
        archive.comment = comment.encode()
        for name, array in arrays.items():
            with archive.open(f'{name}{SUFFIX}', 'w', force_zip64=True) as member:
                npy.write_array(member, np.asanyarray(array), allow_pickle=False)


def read_comment(path: Path) -> str:
    """Return the comment of an .npz; raise DataFileError where there is no such file."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.comment.decode('utf-8', errors='replace')
    except UNREADABLE as error:
        raise DataFileError(f'{path}: no .npz that can be read: {cut(str(error))}') from error


def _members(
    archive: zipfile.ZipFile, names: Collection[str] | None
) -> dict[str, zipfile.ZipInfo]:
    present = {info.filename.removesuffix(SUFFIX): info for info in archive.infolist()}
    if names is None:
        return present
    missing = sorted(set(names) - set(present))
    if missing:
        raise ValueError(f'the arrays {missing} are missing')
    return {name: present[name] for name in names}


def _array(content: bytes) -> NDArray[Any]:
    """Return the array of the bytes of an .npy; its header must fit its size."""
    stream = io.BytesIO(content)
    version = npy.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f'format {version} is not supported')
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran_order, dtype = read(stream)
    if dtype.hasobject or min(shape, default=0) < 0:
        raise ValueError(f'expected numbers, found {dtype} {shape}')
    expected = math.prod(shape) * dtype.itemsize
    found = len(content) - stream.tell()
    if expected != found:
        raise ValueError(f'{dtype} {shape} needs {expected} bytes, found {found}')
    array = np.frombuffer(content, np.uint8, found, stream.tell()).copy().view(dtype)
    return array.reshape(shape, order='F' if fortran_order else 'C')
