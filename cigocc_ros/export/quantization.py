"""Eight-bit convolutions: ranges from real frames, Q/DQ pairs around them, the rest untouched.

The pairs are placed by ONNX Runtime's quantiser; `modelopt_route` is the other way to get them for
TensorRT. Convolutions that decide by themselves (class logits, thresholds, sampling locations)
stay in float32: they are small, and a step of theirs moves labels.
"""

from __future__ import annotations

import contextlib
import io
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx

from cigocc_ros.core.errors import CigoccError
from cigocc_ros.export.mixed_precision import DECIDING, LEARNED
from cigocc_ros.runtime.contract import Arrays

CONV = 'Conv'
PERCENTILE = 99.99
"""Share of an activation's values, in percent, that the eight bits cover; the others saturate."""
HISTOGRAM_BINS = 2048


class QuantizationError(CigoccError, ValueError):
    """A network cannot be quantised, or says something else afterwards."""


def quantizable_convs(model: onnx.ModelProto) -> list[str]:
    """Return the names of the convolutions with constant weights that decide nothing directly.

    Raises QuantizationError where there is none.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    kept = _deciding(model.graph)
    names = [
        node.name
        for node in model.graph.node
        if node.op_type == CONV and node.input[1] in weights and node.name not in kept
    ]
    if not names:
        raise QuantizationError('no convolution to quantise in this graph')
    return names


def calibrate(model: Path, frames: Sequence[Arrays], folder: Path) -> Any:
    """Run float32 `model` on frames and return the ranges of what goes in and out of each Conv.

    Activations of one frame are in memory at a time; copies of the model are written into
    `folder`, none beside the model, whose folder may be read-only. Raises QuantizationError
    without frames.
    """
    from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator

    # shapes are inferred into a file beside the one that is given
    copied = shutil.copyfile(model, folder / 'float32.onnx')
    calibrator = create_calibrator(
        copied,
        [CONV],
        str(folder / 'calibrated.onnx'),
        CalibrationMethod.Percentile,
        extra_options={'num_bins': HISTOGRAM_BINS, 'percentile': PERCENTILE},
    )
    readers = [_OneFrame(arrays) for arrays in frames]
    if not readers:
        raise QuantizationError('calibration needs at least one frame, found none')
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        for reader in readers:
            calibrator.collect_data(reader)
        return calibrator.compute_data()


def quantize_for_cpu(
    model: onnx.ModelProto, ranges: Any, names: Sequence[str], reduce_range: bool
) -> onnx.ModelProto:
    """Return `model` with unsigned activations and signed weights, as CPU kernels want them.

    `reduce_range` keeps weights to seven bits: on x86 CPUs without VNNI, sums of two products of
    eight bits saturate.
    """
    from onnxruntime.quantization import QuantType

    return _quantized(model, ranges, names, QuantType.QUInt8, reduce_range, {})


def quantize_symmetric(
    model: onnx.ModelProto, ranges: Any, names: Sequence[str]
) -> onnx.ModelProto:
    """Return `model` with signed, symmetric pairs and float biases, as TensorRT wants them."""
    from onnxruntime.quantization import QuantType

    options = {'ActivationSymmetric': True, 'WeightSymmetric': True, 'QuantizeBias': False}
    return _quantized(model, ranges, names, QuantType.QInt8, False, options)


def _quantized(
    model: onnx.ModelProto,
    ranges: Any,
    names: Sequence[str],
    activations: Any,
    reduce_range: bool,
    options: dict[str, Any],
) -> onnx.ModelProto:
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    quantizer = QDQQuantizer(
        copy,
        per_channel=True,
        reduce_range=reduce_range,
        weight_qType=QuantType.QInt8,
        activation_qType=activations,
        tensors_range=ranges,
        nodes_to_quantize=list(names),
        nodes_to_exclude=[],
        op_types_to_quantize=[CONV],
        extra_options=options,
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    quantized: onnx.ModelProto = quantizer.model.model
    own = [entry for entry in quantized.opset_import if entry.domain == '']
    del quantized.opset_import[:]
    quantized.opset_import.extend(own)
    onnx.checker.check_model(quantized)
    return quantized


def _deciding(graph: onnx.GraphProto) -> set[str]:
    """Return the names of the learned layers with no other one between them and a decision."""
    maker = {name: node for node in graph.node for name in node.output}
    wanted = [value.name for value in graph.output]
    for node in graph.node:
        if node.op_type in DECIDING:
            wanted += node.input
        elif node.op_type == 'GridSample':
            wanted.append(node.input[1])
    seen: set[str] = set()
    deciding = set()
    while wanted:
        name = wanted.pop()
        found = maker.get(name)
        if found is None or name in seen:
            continue
        seen.add(name)
        if found.op_type in LEARNED:
            deciding.add(found.name)
        else:
            wanted += found.input
    return deciding


class _OneFrame:
    """What ONNX Runtime's calibrator reads from; it asks until it is given nothing."""

    def __init__(self, arrays: Arrays) -> None:
        self._left: list[Arrays] = [arrays]

    def get_next(self) -> Arrays | None:
        return self._left.pop() if self._left else None
