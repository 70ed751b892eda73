"""ONNX bytes without the onnx library: what must hold of them, and their local functions.

A tensor may lie in another file, which no hash covers and whose path the model chooses. Models of
this project are one file, so any such tensor is refused.
Field numbers are those of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto);
wire format: https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from cigocc_ros.core.errors import ManifestError

SAMPLE_DOMAIN, SAMPLE_OP = 'trt.plugins', 'MultiscaleDeformableAttnPlugin_TRT'
"""Deformable sampling in our files: a local function that has the name of TensorRT's plugin."""
PLUGIN_VERSION = '1'
"""Of that plugin: in every release from 10.3 to 11.1, of no namespace."""
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
_GRAPH, _OPSETS, _FUNCTIONS = 7, 8, 25
_DOMAIN, _VERSION = 1, 2
_NODES, _OP_TYPE = 1, 4
_FUNCTION_NAME = 1
_STANDARD = (b'', b'ai.onnx')
"""Names of the domain of ONNX's own operators."""


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


def opset_of(content: bytes, where: str) -> int:
    """Return the opset of ONNX's own operators in a file's bytes; ManifestError without one."""
    try:
        for number, value in _fields(memoryview(content)):
            if number == _OPSETS and isinstance(value, memoryview):
                version = dict(_fields(value)).get(_VERSION)
                if isinstance(version, int) and _text(value, _DOMAIN) in _STANDARD:
                    return version
    except _Damaged as error:
        raise ManifestError(f'{where}: no ONNX file: {error}') from error
    raise ManifestError(f'{where}: no ONNX file: it names no opset')


def count_calls(content: bytes, name: str, where: str) -> int:
    """Return how many nodes of the graph are of an operator; raise ManifestError if damaged."""
    wanted = name.encode()
    try:
        return sum(
            _text(node, _OP_TYPE) == wanted
            for graph in _messages(memoryview(content), _GRAPH)
            for node in _messages(graph, _NODES)
        )
    except _Damaged as error:
        raise ManifestError(f'{where}: no ONNX file: {error}') from error


def without_function(content: bytes, name: str, where: str) -> bytes:
    """Return the file without the body of a local function: its calls are left to the reader.

    All other bytes stay as they are. Raises ManifestError for a damaged file.
    """
    data, wanted = memoryview(content), name.encode()

    def is_body(number: int, value: int | memoryview) -> bool:
        if number != _FUNCTIONS or not isinstance(value, memoryview):
            return False
        return _text(value, _FUNCTION_NAME) == wanted

    try:
        kept = [data[a:b] for number, value, a, b in _spans(data) if not is_body(number, value)]
    except _Damaged as error:
        raise ManifestError(f'{where}: no ONNX file: {error}') from error
    return b''.join(kept)


def renamed_operator(content: bytes, name: str, new: str) -> bytes:
    """Return the file with a local function and its calls under another name of equal length."""
    if len(name) != len(new):
        raise ValueError(f'{name} and {new}: lengths are part of the format and must be equal')
    return content.replace(name.encode(), new.encode())


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


def _messages(data: memoryview, wanted: int) -> Iterator[memoryview]:
    """Yield the messages that one field of a message holds."""
    for number, value in _fields(data):
        if number == wanted and isinstance(value, memoryview):
            yield value


def _text(data: memoryview, wanted: int) -> bytes:
    """Return the last string that one field of a message holds; empty where there is none."""
    texts = [bytes(text) for text in _messages(data, wanted)]
    return texts[-1] if texts else b''


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield number and value of each field of a message; bytes as they are."""
    for number, value, _, _ in _spans(data):
        yield number, value


def _spans(data: memoryview) -> Iterator[tuple[int, int | memoryview, int, int]]:
    """Yield number and value of each field with where it begins and ends."""
    at = 0
    while at < len(data):
        begin = at
        key, at = _varint(data, at)
        wire = key & 7
        if wire == VARINT:
            value, at = _varint(data, at)
            yield key >> 3, value, begin, at
            continue
        size = {FIXED64: 8, FIXED32: 4}.get(wire)
        if wire == BYTES:
            size, at = _varint(data, at)
        if size is None or size > len(data) - at:
            raise _Damaged(f'a field of wire type {wire} and {size} bytes at {at}')
        yield key >> 3, data[at : at + size], begin, at + size
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
