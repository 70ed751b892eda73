"""What must hold of ONNX bytes before a runtime reads them, without the onnx library.

A tensor may lie in another file, which no hash covers and whose path the model chooses. Models of
this project are one file, so any such tensor is refused.
Field numbers are those of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto);
wire format: https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from cigocc_ros.core.errors import ManifestError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MAX_DEPTH = 32
"""Messages within each other; a graph within a graph is three more."""
_MAX_VARINT_BYTES = 10
Schema: TypeAlias = 'dict[int, str]'
# message -> field -> message: all ways from a model to a tensor
_MESSAGES: dict[str, Schema] = {
    'model': {7: 'graph', 25: 'function', 20: 'training'},
    'training': {1: 'graph', 2: 'graph'},
    'function': {7: 'node', 11: 'attribute'},
    'graph': {1: 'node', 5: 'tensor', 15: 'sparse'},
    'node': {5: 'attribute'},
    'attribute': {5: 'tensor', 6: 'graph', 10: 'tensor', 11: 'graph', 22: 'sparse', 23: 'sparse'},
    'sparse': {1: 'tensor', 2: 'tensor'},
    'tensor': {},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14


def require_self_contained(content: bytes, where: str) -> None:
    """Raise ManifestError where ONNX bytes are damaged or have tensors in other files."""
    try:
        tensors = _tensors(memoryview(content), 'model', 0)
        external = any(_is_external(tensor) for tensor in tensors)
    except _Damaged as error:
        raise ManifestError(f'{where}: no ONNX file: {error}') from error
    if external:
        raise ManifestError(
            f'{where}: a tensor lies in another file, which no hash covers: export it as one file '
            'with `cigocc export`'
        )


class _Damaged(Exception):
    pass


def _tensors(data: memoryview, kind: str, depth: int) -> Iterator[memoryview]:
    """Yield the bytes of every tensor within a message."""
    if depth > MAX_DEPTH:
        raise _Damaged(f'more than {MAX_DEPTH} levels of nesting')
    if kind == 'tensor':
        yield data
        return
    inner = _MESSAGES[kind]
    for number, value in _fields(data):
        if number in inner and isinstance(value, memoryview):
            yield from _tensors(value, inner[number], depth + 1)


def _is_external(tensor: memoryview) -> bool:
    return any(
        number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value != 0)
        for number, value in _fields(tensor)
    )


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield number and value of each field of a message; bytes as they are."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        wire = key & 7
        if wire == VARINT:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        size = {FIXED64: 8, FIXED32: 4}.get(wire)
        if wire == BYTES:
            size, at = _varint(data, at)
        if size is None or size > len(data) - at:
            raise _Damaged(f'a field of wire type {wire} and {size} bytes at {at}')
        yield key >> 3, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """Return the number at a place and the place after it."""
    value = 0
    for index in range(_MAX_VARINT_BYTES):
        if at + index >= len(data):
            raise _Damaged('the file ends within a number')
        byte = data[at + index]
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, at + index + 1
    raise _Damaged(f'a number of more than {_MAX_VARINT_BYTES} bytes at {at}')
