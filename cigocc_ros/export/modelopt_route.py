"""Scales from NVIDIA's ModelOpt instead of ONNX Runtime's quantiser, where it is installed."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from cigocc_ros.export.quantization import CONV
from cigocc_ros.runtime.contract import Arrays

METHOD = 'entropy'


def has_modelopt() -> bool:
    """Whether ModelOpt with what its ONNX part needs is installed."""
    names = ('modelopt', 'onnx_graphsurgeon', 'onnxconverter_common', 'onnxslim')
    return all(importlib.util.find_spec(name) is not None for name in names)


def quantize_with_modelopt(
    model: Path, frames: Sequence[Arrays], names: Sequence[str], folder: Path
) -> onnx.ModelProto:
    """Return the float32 graph with symmetric int8 pairs around the convolutions called `names`.

    Works on a copy in `folder`: ModelOpt rewrites the file that it is given.
    """
    from modelopt.onnx.quantization import quantize

    source, target = folder / 'source.onnx', folder / 'modelopt.onnx'
    shutil.copyfile(model, source)
    quantize(
        str(source),
        quantize_mode='int8',
        calibration_data={key: np.concatenate([f[key] for f in frames]) for key in frames[0]},
        calibration_method=METHOD,
        calibration_eps=['cpu'],
        op_types_to_quantize=[CONV],
        nodes_to_quantize=[f'^{name}$' for name in names],
        output_path=str(target),
        high_precision_dtype='fp32',
        log_level='WARNING',
    )
    return onnx.load(target)
