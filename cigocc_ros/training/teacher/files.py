"""One file per frame for what a teacher said: a zip of plain arrays, no pickle.

    header      JSON as uint8: format, the fields of TeacherInfo, image_size, feature_grid
    features    (C, h, w) float16
    masks       19 H W bits, packed           valid    H W bits, packed

Masks have the resolution of the source image, so that one cache serves every model config; being
flat they pack to a few kB.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cigocc_ros.core.arrays import read_arrays
from cigocc_ros.core.errors import ConfigError, DataFileError
from cigocc_ros.core.files import replacing
from cigocc_ros.core.text import excerpt
from cigocc_ros.core.typed_yaml import from_mapping, to_mapping
from cigocc_ros.core.yaml_json import parse_json
from cigocc_ros.training.teacher.output import MASK_CLASSES, TeacherInfo, TeacherOutput

FORMAT_VERSION = 1
_ARRAYS = ('header', 'features', 'masks', 'valid')


@dataclass(frozen=True)
class _Header:
    """The JSON of a file."""

    format: int
    teacher: TeacherInfo
    image_size: tuple[int, int]
    origin_px: tuple[float, float]
    step_px: tuple[float, float]


def write_output(path: Path, output: TeacherOutput, info: TeacherInfo) -> None:
    """Write atomically; raise DataFileError where that fails or `output` is not of `info`."""
    if output.features.shape[0] != info.channels:
        raise DataFileError(
            f'{path}: teacher {info.name!r} has {info.channels} feature channels, found '
            f'{output.features.shape[0]}'
        )
    header = _Header(FORMAT_VERSION, info, output.image_size, output.origin_px, output.step_px)
    text = json.dumps(to_mapping(header)).encode()
    with replacing(path) as partial, partial.open('wb') as file:
        np.savez_compressed(
            file,
            header=np.frombuffer(text, dtype=np.uint8),
            features=output.features,
            masks=np.packbits(output.masks),
            valid=np.packbits(output.valid),
        )


def read_output(path: Path) -> tuple[TeacherOutput, TeacherInfo]:
    """Return what a teacher said of a frame; raise DataFileError for anything unexpected."""
    arrays = _read_arrays(path)
    header = _parse_header(path, arrays['header'])
    height, width = header.image_size
    try:
        output = TeacherOutput(
            features=arrays['features'],
            origin_px=header.origin_px,
            step_px=header.step_px,
            masks=_bits(arrays['masks'], (len(MASK_CLASSES), height, width)),
            valid=_bits(arrays['valid'], (height, width)),
        )
    except DataFileError as error:
        raise DataFileError(f'{path}: {error}') from error
    if output.features.shape[0] != header.teacher.channels:
        raise DataFileError(
            f'{path}: its header says {header.teacher.channels} feature channels, found '
            f'{output.features.shape[0]}; delete it and run "cigocc teacher" again'
        )
    return output, header.teacher


def read_info(path: Path) -> TeacherInfo:
    """Return who wrote a frame; raise DataFileError where it is not a whole teacher file."""
    return read_output(path)[1]


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    if not path.is_file():
        raise DataFileError(f'{path}: the teacher has not seen this frame; run "cigocc teacher"')
    try:
        arrays = read_arrays(path)
    except DataFileError as error:
        raise DataFileError(
            f'{path}: not a teacher file ({error}); delete it and run "cigocc teacher" again'
        ) from error
    if sorted(arrays) != sorted(_ARRAYS):
        raise DataFileError(
            f'{path}: expected the arrays {_ARRAYS}, found {excerpt(list(arrays))}'
        )
    return arrays


def _parse_header(path: Path, content: NDArray[Any]) -> _Header:
    try:
        mapping = parse_json(content.astype(np.uint8).tobytes(), 'header')
        found = mapping.get('format')
        if found != FORMAT_VERSION:
            raise ConfigError(f'expected format {FORMAT_VERSION}, found {found!r}')
        return from_mapping(_Header, mapping, 'header')
    except ValueError as error:
        raise DataFileError(f'{path}: not a teacher file: {error}') from error


def _bits(packed: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    count = int(np.prod(shape))
    if packed.dtype != np.uint8 or packed.shape != (-(-count // 8),):
        raise DataFileError(
            f'expected {-(-count // 8)} packed bytes for bits of {shape}, found '
            f'{packed.dtype} {packed.shape}'
        )
    return np.unpackbits(packed, count=count).reshape(shape).astype(bool)
