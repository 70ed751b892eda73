"""Make a model folder whose convolutions compute in eight bits from one that was exported."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx

from cigocc_ros.core.agreement import MIN_INT8_AGREEMENT, equal_share
from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.manifest import (
    LABELS,
    MANIFEST_FILE,
    MIXED_ROLE,
    ModelManifest,
    file_spec,
    load_manifest,
    verified_file,
    write_manifest,
)
from cigocc_ros.export.cpu_taps import without_filters
from cigocc_ros.export.modelopt_route import quantize_with_modelopt
from cigocc_ros.export.quantization import (
    CONV,
    PERCENTILE,
    QuantizationError,
    calibrate,
    quantizable_convs,
    quantize_for_cpu,
    quantize_symmetric,
)
from cigocc_ros.export.quantized_mixed import conv_scales, float_twin, quantize_mixed
from cigocc_ros.runtime.contract import ONNX_ROLE, Arrays
from cigocc_ros.runtime.onnxruntime_engine import OnnxRuntimeEngine
from cigocc_ros.runtime.self_check import GOLDEN_FILE, GOLDEN_ROLE, Golden, save_golden

HELD_OUT_FRAMES = 4
"""Frames that check the labels and take no part in the calibration."""
INT8_FILE, MIXED_INT8_FILE = 'model_int8.onnx', 'model_int8_fp16.onnx'


@dataclass(frozen=True)
class Int8Options:
    """What the user decides."""

    reduce_range: bool
    use_modelopt: bool
    """Whether ModelOpt gives the scales of the file for TensorRT."""
    threads: int
    data: str
    """Name of what the frames are from, for the manifest."""


def quantize_folder(
    source: Path,
    out: Path,
    frames: Sequence[Arrays],
    held_out: Sequence[Arrays],
    options: Int8Options,
) -> ModelManifest:
    """Write model folder `out` with the int8 files of the model in `source`; return its manifest.

    `frames` calibrate, `held_out` check the labels. model_int8.onnx is for CPUs; where the source
    has a mixed float16 file, model_int8_fp16.onnx is for TensorRT. Both run through ONNX Runtime
    before anything is moved into place. Raises QuantizationError, ManifestError.
    """
    if out.resolve() == source.resolve():
        raise QuantizationError(
            f'{out}: would replace the model it is made of; name another folder'
        )
    manifest = load_manifest(source)
    with tempfile.TemporaryDirectory(prefix='cigocc-') as scratch:
        staging = Path(scratch) / 'folder'
        staging.mkdir()
        facts = _write_graphs(source, manifest, staging, frames, options)
        made = _described(staging, manifest, out.resolve().name)
        shares = _prove(source, manifest, staging, made, held_out, options.threads)
        engine = OnnxRuntimeEngine(staging, made, options.threads)
        save_golden(staging / GOLDEN_FILE, Golden(held_out[0], engine.run(held_out[0])))
        engine.close()
        facts |= {
            'data': options.data,
            'check_frames': len(held_out),
            'worst_labels_equal': shares,
        }
        files = {**made.files, GOLDEN_ROLE: file_spec(staging, GOLDEN_FILE)}
        made = replace(made, files=files, training={**made.training, 'quantization': facts})
        write_manifest(staging, made)
        _move(staging, out)
    return made


def calibration_frames(total: int, count: int, where: str) -> tuple[list[int], list[int]]:
    """Return the indices of `count` frames to calibrate on, and of others between them to check.

    All are evenly spread over `total`. Raises ConfigError where there are too few.
    """
    wanted = count + HELD_OUT_FRAMES
    if count < 1 or total < wanted:
        raise ConfigError(
            f'{where}: {total} frames found, --frames {count} needs at least 1 and '
            f'{HELD_OUT_FRAMES} more to check'
        )
    chosen = [index * total // wanted for index in range(wanted)]
    check = [(2 * index + 1) * wanted // (2 * HELD_OUT_FRAMES) for index in range(HELD_OUT_FRAMES)]
    calibrate = [chosen[index] for index in range(wanted) if index not in set(check)]
    return calibrate, [chosen[index] for index in check]


def scales_from(use_modelopt: bool) -> str:
    """Return the name and version of what gives the scales of the file for TensorRT."""
    name = 'nvidia-modelopt' if use_modelopt else 'onnxruntime'
    return f'{name} {importlib.metadata.version(name)}'


def _write_graphs(
    source: Path,
    manifest: ModelManifest,
    staging: Path,
    frames: Sequence[Arrays],
    options: Int8Options,
) -> dict[str, Any]:
    """Write the int8 files and return what the manifest says of how they were made."""
    model = without_filters(onnx.load(verified_file(source, manifest, ONNX_ROLE)))
    path = staging.parent / 'plain.onnx'
    onnx.save_model(model, path)
    names = quantizable_convs(model)
    ranges = calibrate(path, frames, staging.parent)
    quantized = quantize_for_cpu(model, ranges, names, options.reduce_range)
    onnx.save_model(quantized, staging / INT8_FILE)
    facts = {
        'of': manifest.model_id,
        'of_sha256': manifest.file(ONNX_ROLE).sha256,
        'convolutions': f'{len(names)} of {_num_convs(model)}',
        'calibration_frames': len(frames),
        'percentile': PERCENTILE,
        'reduce_range': options.reduce_range,
    }
    if MIXED_ROLE in manifest.files:
        mixed = onnx.load(verified_file(source, manifest, MIXED_ROLE))
        symmetric = _symmetric(mixed, frames, staging.parent, options.use_modelopt)
        onnx.save_model(quantize_mixed(mixed, conv_scales(symmetric)), staging / MIXED_INT8_FILE)
        facts['tensorrt_scales_from'] = scales_from(options.use_modelopt)
    return facts


def _symmetric(
    mixed: onnx.ModelProto, frames: Sequence[Arrays], scratch: Path, use_modelopt: bool
) -> onnx.ModelProto:
    """Return the float32 twin of the mixed file with symmetric int8 pairs."""
    twin, path = float_twin(mixed), scratch / 'twin.onnx'
    onnx.save_model(twin, path)
    names = quantizable_convs(twin)
    if use_modelopt:
        return quantize_with_modelopt(path, frames, names, scratch)
    return quantize_symmetric(twin, calibrate(path, frames, scratch), names)


def _described(staging: Path, manifest: ModelManifest, model_id: str) -> ModelManifest:
    files = {ONNX_ROLE: file_spec(staging, INT8_FILE, 'int8')}
    if (staging / MIXED_INT8_FILE).is_file():
        files[MIXED_ROLE] = file_spec(staging, MIXED_INT8_FILE, 'mixed_int8')
    return replace(manifest, model_id=model_id, files=files)


def _prove(
    source: Path,
    manifest: ModelManifest,
    staging: Path,
    made: ModelManifest,
    frames: Sequence[Arrays],
    threads: int,
) -> dict[str, float]:
    """Return file -> share of the float32 labels that survive on the worst frame; raise if few."""
    reference = OnnxRuntimeEngine(source, manifest, threads)
    expected = [reference.run(arrays)[LABELS] for arrays in frames]
    reference.close()
    shares = {}
    for spec in made.files.values():
        one = replace(made, files={ONNX_ROLE: spec})
        engine = OnnxRuntimeEngine(staging, one, threads)
        pairs = zip(frames, expected, strict=True)
        found = [equal_share(engine.run(arrays)[LABELS], wanted) for arrays, wanted in pairs]
        engine.close()
        shares[spec.path] = min(found)
        if shares[spec.path] < MIN_INT8_AGREEMENT:
            raise QuantizationError(
                f'{spec.path} was not written: {100 * min(found):.2f} % of the float32 labels '
                f'survive on the worst frame, at least {100 * MIN_INT8_AGREEMENT:g} % expected; '
                'calibrate on more frames of the kind the model will see'
            )
    return shares


def _move(staging: Path, out: Path) -> None:
    """Put the files in place, the manifest last: a crash in between leaves hashes that misfit."""
    out.mkdir(parents=True, exist_ok=True)
    (out / MANIFEST_FILE).unlink(missing_ok=True)
    names = [path.name for path in staging.iterdir() if path.name != MANIFEST_FILE]
    for name in (*names, MANIFEST_FILE):
        partial = out / f'.{name}.partial'
        shutil.copyfile(staging / name, partial)
        os.replace(partial, out / name)


def _num_convs(model: onnx.ModelProto) -> int:
    return sum(node.op_type == CONV for node in model.graph.node)
