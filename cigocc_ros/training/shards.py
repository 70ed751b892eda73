"""Prepared frames packed for a training host that is far away: a seventh of their size.

A shard is a zip of many frames. Its `header.json` says for which sizes of network they were
prepared and how each array is coded:

    webp    (H, W, 3) uint8 images, WebP of quality 95: small differences of colour are lost
    depth   float16 metres, 0 = unknown, as steps of 0.34 %: off by 0.17 % at most
    plain   everything else, bit for bit

The latter two are LZMA. A host with nothing but shards trains: no data set is needed there.
"""

from __future__ import annotations

import functools
import json
import lzma
import math
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.arrays import UNREADABLE, Arrays
from cigocc_ros.core.errors import ConfigError, DataFileError
from cigocc_ros.core.files import replacing
from cigocc_ros.core.opencv import import_cv2
from cigocc_ros.core.text import cut, excerpt
from cigocc_ros.core.typed_yaml import from_mapping, to_mapping
from cigocc_ros.core.yaml_json import parse_json
from cigocc_ros.training.cache import FrameRef

Codec = Literal['webp', 'depth', 'plain']
FORMAT_VERSION = 1
SUFFIX = '.shard'
HEADER = 'header.json'
WEBP_QUALITY = 95
DEPTH_ARRAYS = frozenset({'measured', 'stereo', 'depth_stereo', 'dense'})
NEAREST_M, STEP = 0.05, math.log(1.0034)
"""Depth d is stored as 1 + round(ln(d / NEAREST_M) / STEP)."""
OPEN_SHARDS = 64
"""Of a process; each keeps a file open."""
MAX_FRAME_BYTES = 200_000_000
"""Of all arrays of a frame together, unpacked; `full` has 22 MB with a teacher."""
_FRAME_NAME = re.compile(r'[A-Za-z0-9][\w-]*/[A-Za-z0-9][\w-]*')
_DTYPES = frozenset({'uint8', 'uint16', 'float16', 'float32', 'float64', 'bool'})
_DELTA: list[dict[str, Any]] = [{'id': lzma.FILTER_DELTA, 'dist': 2}]
_LZMA2: list[dict[str, Any]] = [{'id': lzma.FILTER_LZMA2, 'preset': 6}]


@dataclass(frozen=True)
class CodedArray:
    """How one array of a frame is stored."""

    codec: Codec
    dtype: str
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        """Raise ConfigError for what this release cannot unpack."""
        size = math.prod(self.shape) * (np.dtype(self.dtype).itemsize if self._known else 1)
        if not self._known or min(self.shape, default=1) < 0 or size > MAX_FRAME_BYTES:
            raise ConfigError(
                f'a packed array: expected a codec of {get_args(Codec)} and a plain dtype of at '
                f'most {MAX_FRAME_BYTES} bytes, found {excerpt((self.codec, self.dtype))} of '
                f'{excerpt(self.shape)}'
            )

    @property
    def _known(self) -> bool:
        return self.codec in get_args(Codec) and self.dtype in _DTYPES


@dataclass(frozen=True)
class ShardHeader:
    """The JSON of a shard."""

    format: int
    prepared_for: str
    """`training.cache.cache_key` of the frames: shards of other sizes are refused."""
    frames: dict[str, dict[str, CodedArray]]
    """Name of a frame (SS/FFFFFF or SS/FFFFFF_right) -> its arrays."""

    def __post_init__(self) -> None:
        """Raise ConfigError for names that are not a sequence and a file: they become paths."""
        strange = [name for name in self.frames if not _FRAME_NAME.fullmatch(name)]
        if strange:
            raise ConfigError(f'expected frames SS/FFFFFF, found {excerpt(strange[0])}')


def write_shard(path: Path, prepared_for: str, frames: Iterable[tuple[str, Arrays]]) -> int:
    """Pack named frames into one file and return their number; raise DataFileError.

    The file appears whole or not at all.
    """
    described: dict[str, dict[str, CodedArray]] = {}
    with replacing(path) as partial, zipfile.ZipFile(partial, 'w') as archive:
        for name, arrays in frames:
            described[name] = {}
            for key, array in arrays.items():
                codec, content = _encoded(key, array)
                described[name][key] = CodedArray(codec, array.dtype.name, array.shape)
                archive.writestr(f'{name}/{key}', content)
        header = ShardHeader(FORMAT_VERSION, prepared_for, described)
        archive.writestr(HEADER, json.dumps(to_mapping(header)))
    return len(described)


class Shard:
    """One packed file, its compressed bytes in memory."""

    def __init__(self, path: Path) -> None:
        """Open and check the header; raise DataFileError where it is no shard of this release."""
        self.path = path
        try:
            self._archive = zipfile.ZipFile(path)
            self.header = _header(self._archive.read(HEADER))
        except (ConfigError, *UNREADABLE) as error:
            raise DataFileError(
                f'{path}: no shard that can be read: {cut(str(error))}; pack it again with '
                '"cigocc pack"'
            ) from error

    @property
    def names(self) -> tuple[str, ...]:
        """The frames, in the order in which they were packed."""
        return tuple(self.header.frames)

    def load(self, name: str) -> Arrays:
        """Return the arrays of a frame; raise DataFileError where it is damaged."""
        coded = self.header.frames[name]
        try:
            return {
                key: _decoded(self._archive.read(f'{name}/{key}'), how)
                for key, how in coded.items()
            }
        except (lzma.LZMAError, *UNREADABLE) as error:
            raise DataFileError(f'{self.path}: frame {name} is damaged: {error}') from error


def open_shards(folder: Path, prepared_for: str) -> Iterator[Shard]:
    """Yield the shards of a folder, sorted; raise DataFileError for those of other sizes."""
    for path in sorted(folder.glob(f'*{SUFFIX}')):
        shard = Shard(path)
        check_sizes(shard, prepared_for)
        yield shard


def check_sizes(shard: Shard, prepared_for: str) -> None:
    """Raise DataFileError for a shard of other sizes."""
    if shard.header.prepared_for != prepared_for:
        raise DataFileError(
            f'{shard.path}: packed for {shard.header.prepared_for}, this network needs '
            f'{prepared_for}; pack again with the same --model and --stage'
        )


def frame_name(frame: FrameRef) -> str:
    """Return the name of a frame in a shard: the file of its prepared arrays."""
    return f'{frame.sequence.name}/{frame.cached.stem}'


@dataclass(frozen=True)
class PackedFrame(FrameRef):
    """A frame that is read from a shard: 7 ms, as long as its arrays of 1.2 MB would take."""

    shard: Path = Path()

    @property
    def is_prepared(self) -> bool:
        """It was, before it was packed."""
        return True

    def load(self) -> Arrays:
        """Return the arrays; raise DataFileError where they are damaged."""
        return _opened(self.shard).load(f'{self.sequence.name}/{self.frame_id}')


def packed_frames(folder: Path, prepared_for: str) -> list[FrameRef]:
    """Return the frames of the shards of a folder, sorted.

    Raises DataFileError where there are none, or of other sizes.
    """
    frames = [frame for shard in open_shards(folder, prepared_for) for frame in frames_of(shard)]
    if not frames:
        raise DataFileError(f'{folder}: no {SUFFIX} files with frames; "cigocc pack" writes them')
    return frames


def frames_of(shard: Shard) -> list[FrameRef]:
    """Return the frames of a shard in the order in which they were packed."""
    named = (name.partition('/') for name in shard.names)
    return [
        PackedFrame(Path(sequence), file, shard.path / sequence / file, shard=shard.path)
        for sequence, _, file in named
    ]


@functools.lru_cache(maxsize=OPEN_SHARDS)
def _opened(path: Path) -> Shard:
    return Shard(path)


def _header(content: bytes) -> ShardHeader:
    mapping: Mapping[str, Any] = parse_json(content, HEADER)
    if mapping.get('format') != FORMAT_VERSION:
        raise ConfigError(f'expected format {FORMAT_VERSION}, found {mapping.get("format")!r}')
    return from_mapping(ShardHeader, mapping, HEADER)


def _encoded(key: str, array: NDArray[Any]) -> tuple[Codec, bytes]:
    if array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3:
        cv2 = import_cv2('packing images')
        settings = [cv2.IMWRITE_WEBP_QUALITY, WEBP_QUALITY]
        _, content = cv2.imencode('.webp', array[..., ::-1], settings)
        return 'webp', content.tobytes()
    if key in DEPTH_ARRAYS and array.dtype == np.float16:
        return 'depth', _compressed(_steps(array).tobytes(), _DELTA)
    return 'plain', _compressed(np.ascontiguousarray(array).tobytes())


def _decoded(content: bytes, how: CodedArray) -> NDArray[Any]:
    if how.codec == 'webp':
        cv2 = import_cv2('unpacking images')
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        if image is None or image.shape != how.shape:
            raise ValueError(f'expected an image {how.shape}')
        return np.ascontiguousarray(image[..., ::-1])
    if how.codec == 'depth':
        steps = _array(_expanded(content, how, np.uint16, _DELTA), np.uint16, how.shape)
        return _metres(steps).astype(how.dtype)
    return _array(_expanded(content, how, how.dtype), how.dtype, how.shape).copy()


def _steps(depth_m: NDArray[np.float16]) -> NDArray[np.uint16]:
    metres = depth_m.astype(np.float64)
    known = metres > 0
    steps = 1 + np.rint(np.log(np.where(known, metres, 1.0) / NEAREST_M) / STEP)
    return np.where(known, np.maximum(steps, 1), 0).astype(np.uint16)


def _metres(steps: NDArray[np.uint16]) -> NDArray[np.float64]:
    return np.where(steps > 0, NEAREST_M * np.exp((steps - 1.0) * STEP), 0.0)


def _array(content: bytes, dtype: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    return np.frombuffer(content, dtype).reshape(shape)


def _compressed(content: bytes, before: list[dict[str, Any]] | None = None) -> bytes:
    return lzma.compress(content, lzma.FORMAT_RAW, filters=[*(before or []), *_LZMA2])


def _expanded(
    content: bytes, how: CodedArray, dtype: Any, before: list[dict[str, Any]] | None = None
) -> bytes:
    """Decompress exactly the bytes that the header promises, never more."""
    size = math.prod(how.shape) * np.dtype(dtype).itemsize
    unpacker = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[*(before or []), *_LZMA2])
    data = unpacker.decompress(content, max_length=size + 1)
    if len(data) != size:
        raise ValueError(f'expected {size} bytes, found {len(data)} or more')
    return data
