"""Tensors of a network as files: float32 or float16, in one file or in parts (safetensors).

float16 halves a checkpoint, for a host that returns little and for a repository. What has fewer
than two axes stays float32: biases, scales and, above all, the statistics of batch norms, whose
variances may leave float16's range at either end; together they are a hundredth of the size. A
matrix stays float32 too where float16 would change it by more than MAX_ROUNDING. Saving what was
read gives the same tensors again.

Parts are named as the hub names them, model-00001-of-00003.safetensors. Each has the record of all
and `parts`, which says what belongs together.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor

from cigocc_ros.core.errors import ConfigError, DataFileError
from cigocc_ros.core.files import replacing
from cigocc_ros.core.text import excerpt

WEIGHTS_FILE = 'model.safetensors'
WeightPrecision = Literal['fp32', 'fp16']
PRECISION, PARTS = 'weights_precision', 'parts'
"""Keys of the header, JSON values: there for float16, and in parts."""
MAX_ROUNDING = 1e-3
"""Largest norm of the error relative to that of the matrix; within its range float16 has 2e-4."""
HEADER_BYTES, ENTRY_BYTES = 256, 160
"""Of a header beside the record, and of a tensor in it beside its name, at most."""
MIB = 1 << 20
_PART = re.compile(r'model-\d{5}-of-\d{5}\.safetensors')


def write_weights(
    folder: Path,
    tensors: Mapping[str, Tensor],
    record: Mapping[str, str],
    precision: WeightPrecision = 'fp32',
    part_mib: float | None = None,
) -> list[Path]:
    """Write tensors with a record for the header, of at most `part_mib` MiB a file; return them.

    Each file appears whole or not at all; weights that were there before are gone afterwards.
    Raises ConfigError for a part that is too small, DataFileError where writing fails.
    """
    if precision not in get_args(WeightPrecision):
        raise ConfigError(
            f'expected a precision of {get_args(WeightPrecision)}, found {precision}'
        )
    stored = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    header = {key: text for key, text in record.items() if key not in (PRECISION, PARTS)}
    if precision == 'fp16':
        stored = {name: halved(value) for name, value in stored.items()}
        header[PRECISION] = json.dumps(precision)
    if part_mib is None:
        paths = [_write(folder / WEIGHTS_FILE, stored, header)]
    else:
        paths = _write_parts(folder, stored, header, part_mib)
    for other in _present(folder):
        if other not in paths:
            other.unlink()
    return paths


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Return the tensors of all files of a folder, float16 as float32; raise DataFileError."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    found: dict[str, Tensor] = {}
    for path in weight_files(folder):
        try:
            tensors = load_file(path)
        except (OSError, SafetensorError) as error:
            raise DataFileError(f'{path}: not a whole safetensors file: {error}') from error
        twice = sorted(set(found) & set(tensors))
        if twice:
            raise DataFileError(f'{path}: {excerpt(twice[0])} is in another part too')
        found |= tensors
    return {
        name: value.float() if value.dtype == torch.float16 else value
        for name, value in found.items()
    }


def weights_sha256(folder: Path) -> str:
    """Return the sha256 of the tensors, in whatever files they are; raise DataFileError."""
    digest = hashlib.sha256()
    for name, value in sorted(read_weights(folder).items()):
        digest.update(f'{name} {value.dtype} {tuple(value.shape)}'.encode())
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()


def read_record(folder: Path) -> dict[str, str]:
    """Return the record that was written with the weights; raise DataFileError without any."""
    header = _header(weight_files(folder)[0])
    header.pop(PARTS, None)
    return header


def weight_files(folder: Path) -> list[Path]:
    """Return the files that hold the weights of a folder, in order.

    Raises DataFileError where there are none, where a part is missing, or where the files are of
    more than one set of weights.
    """
    present = _present(folder)
    if not present:
        raise DataFileError(f'checkpoint {folder}: {WEIGHTS_FILE} is missing')
    if present == [folder / WEIGHTS_FILE]:
        return present
    names = [path.name for path in present]
    if WEIGHTS_FILE in names:
        raise DataFileError(
            f'{folder}: both {WEIGHTS_FILE} and parts are there; delete the old ones'
        )
    total = int(present[0].stem[-5:])
    missing = sorted({part_name(i, total) for i in range(1, total + 1)} - set(names))
    if missing:
        raise DataFileError(f'{folder}: the part {missing[0]} of the weights is missing')
    if len(names) > total or len({_header(path).get(PARTS) for path in present}) > 1:
        raise DataFileError(
            f'{folder}: parts of several sets of weights lie there ({", ".join(names[:4])}); '
            'delete those that do not belong'
        )
    return present


def halved(value: Tensor) -> Tensor:
    """Return a tensor in float16 where that keeps it (see the module), else as it is."""
    if value.dtype != torch.float32 or value.ndim < 2:
        return value
    half = value.half()
    return half if rounding(value, half) <= MAX_ROUNDING else value


def rounding(value: Tensor, half: Tensor) -> float:
    """Return the norm of what float16 takes from a tensor, relative to its own; inf beyond."""
    if not bool(torch.isfinite(half).all()):
        return float('inf')
    error = (half.double() - value.double()).norm() / value.double().norm()
    return float(torch.nan_to_num(error))


def part_name(number: int, total: int) -> str:
    """Return the file name of a part, counted from 1."""
    return f'model-{number:05d}-of-{total:05d}.safetensors'


def _write_parts(
    folder: Path, tensors: dict[str, Tensor], header: dict[str, str], part_mib: float
) -> list[Path]:
    taken = HEADER_BYTES + len(json.dumps(header))
    parts = list(_divided(tensors, part_mib, taken))
    header = header | {PARTS: json.dumps({'id': _digest(tensors, header), 'count': len(parts)})}
    return [
        _write(folder / part_name(number, len(parts)), part, header)
        for number, part in enumerate(parts, 1)
    ]


def _divided(
    tensors: dict[str, Tensor], part_mib: float, taken: int
) -> Iterator[dict[str, Tensor]]:
    """Yield the tensors in parts, in their order; raise ConfigError for one that fits no part.

    `taken` bytes of each part are not for tensors.
    """
    room = part_mib * MIB - taken
    part: dict[str, Tensor] = {}
    used = 0
    for name, value in tensors.items():
        size = value.numel() * value.element_size() + len(name) + ENTRY_BYTES
        if size > room:
            raise ConfigError(
                f'{name} alone has {size / MIB:.1f} MiB, a part of {part_mib:g} MiB has room for '
                f'{max(room, 0) / MIB:.1f}: allow larger parts'
            )
        if part and used + size > room:
            yield part
            part, used = {}, 0
        part[name] = value
        used += size
    yield part


def _write(path: Path, tensors: dict[str, Tensor], header: dict[str, str]) -> Path:
    from safetensors.torch import save_file

    with replacing(path) as partial:
        save_file(tensors, partial, metadata=header)
    return path


def _header(path: Path) -> dict[str, str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, 'pt') as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise DataFileError(f'{path}: no weights that can be read: {error}') from error


def _present(folder: Path) -> list[Path]:
    names = (path for path in folder.glob('model*.safetensors'))
    return sorted(p for p in names if p.name == WEIGHTS_FILE or _PART.fullmatch(p.name))


def _digest(tensors: dict[str, Tensor], header: dict[str, str]) -> str:
    """Name a set of weights by its content."""
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name, value in tensors.items():
        digest.update(name.encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
