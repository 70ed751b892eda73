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
from cigocc_ros.export.graph import LEARNED, Graph, copied, own_opset_only
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
    graph = Graph(model.graph)
    deciding = graph.upstream(
        graph.decisive_values(), lambda index: graph.nodes[index].op_type in LEARNED
    ).reached
    names = [
        node.name
        for index, node in enumerate(graph.nodes)
        if node.op_type == CONV and node.input[1] in graph.weights and index not in deciding
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

    quantizer = QDQQuantizer(
        copied(model),
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
    own_opset_only(quantized)
    onnx.checker.check_model(quantized)
    return quantized


class _OneFrame:
    """What ONNX Runtime's calibrator reads from; it asks until it is given nothing."""

    def __init__(self, arrays: Arrays) -> None:
        self._left: list[Arrays] = [arrays]

    def get_next(self) -> Arrays | None:
        return self._left.pop() if self._left else None
