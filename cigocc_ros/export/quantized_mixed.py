"""Put the scales of a quantised float32 graph into the mixed float16 file for TensorRT.

Quantisers know neither our local function, which TensorRT replaces by its sampling plugin, nor our
split between float16 layers and float32 geometry. So they work on a float32 twin of the mixed file
and only say the scales; the pairs are put into the mixed file here, with float16 on the open side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx.inliner
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from cigocc_ros.core.manifest import OPSET_OF_MIXED_INT8
from cigocc_ros.export.graph import copied, own_opset_only, replace_nodes
from cigocc_ros.export.half_emulation import emulated
from cigocc_ros.export.mixed_precision import HALF
from cigocc_ros.export.quantization import CONV, QuantizationError

MAX_LEVEL = 127
SMALLEST_HALF = 2.0**-24


@dataclass(frozen=True)
class ConvScales:
    """Of one convolution: of its input, and of its weights by output channel (C_out,)."""

    activation: float
    weights: NDArray[np.float32]


def float_twin(mixed: onnx.ModelProto) -> onnx.ModelProto:
    """Return the mixed file in float32 with its rounding, functions written out; names stay."""
    flat: onnx.ModelProto = onnx.inliner.inline_local_functions(emulated(mixed))
    own_opset_only(flat)
    return flat


def conv_scales(quantized: onnx.ModelProto) -> dict[str, ConvScales]:
    """Return name of the convolution -> scales; raise QuantizationError unless symmetric.

    Reads weights stored as int8 and weights that are quantised in the graph alike.
    """
    tensors = {tensor.name: tensor for tensor in quantized.graph.initializer}
    for node in quantized.graph.node:
        if node.op_type == 'Constant':
            tensors[node.output[0]] = node.attribute[0].t
    pairs = {n.output[0]: n for n in quantized.graph.node if n.op_type == 'DequantizeLinear'}
    scales = {}
    for node in quantized.graph.node:
        if node.op_type == CONV and all(name in pairs for name in node.input[:2]):
            activation, weights = (_scale(pairs[name], tensors) for name in node.input[:2])
            scales[node.name] = ConvScales(float(activation.reshape(-1)[0]), weights)
    return scales


def quantize_mixed(mixed: onnx.ModelProto, scales: dict[str, ConvScales]) -> onnx.ModelProto:
    """Return the mixed file with Q/DQ pairs at the convolutions of `scales`; biases stay float16.

    Raises QuantizationError where a convolution of `scales` is not a float16 one of `mixed`.
    """
    model = copied(mixed)
    _Inserter(model.graph, scales).run()
    for imports in (model.opset_import, *(function.opset_import for function in model.functions)):
        for entry in imports:
            if entry.domain == '':
                entry.version = OPSET_OF_MIXED_INT8
    onnx.checker.check_model(model, full_check=True)
    return model


class _Inserter:
    def __init__(self, graph: onnx.GraphProto, scales: dict[str, ConvScales]) -> None:
        self.graph, self.scales = graph, dict(scales)
        self.weights = {tensor.name: tensor for tensor in graph.initializer}
        self.made: dict[tuple[str, float], str] = {}
        self.nodes: list[onnx.NodeProto] = []

    def run(self) -> None:
        for node in self.graph.node:
            found = self.scales.pop(node.name, None) if node.op_type == CONV else None
            if found is not None:
                node.input[0] = self._activation(node.input[0], found.activation)
                node.input[1] = self._weights(node.input[1], found.weights)
            self.nodes.append(node)
        if self.scales:
            raise QuantizationError(
                f'{len(self.scales)} quantised convolutions are not in the mixed file, first '
                f'{next(iter(self.scales))!r}: the two files are not of one export'
            )
        replace_nodes(self.graph, self.nodes)

    def _activation(self, name: str, scale: float) -> str:
        """Return the value after quantising and back; one pair for all that share it."""
        key = (name, scale)
        if key not in self.made:
            stem = f'{name}__int8_{len(self.made)}'
            parameters = [
                self._add(f'{stem}_scale', np.array(_half(scale), np.float16)),
                self._add(f'{stem}_zero', np.array(0, np.int8)),
            ]
            self.nodes += [
                helper.make_node(
                    'QuantizeLinear', [name, *parameters], [f'{stem}_q'], f'{stem}_q'
                ),
                helper.make_node(
                    'DequantizeLinear', [f'{stem}_q', *parameters], [stem], f'{stem}_dq'
                ),
            ]
            self.made[key] = stem
        return self.made[key]

    def _weights(self, name: str, scales: NDArray[np.float32]) -> str:
        tensor = self.weights.get(name)
        if tensor is None or tensor.data_type != HALF:
            raise QuantizationError(f'weight {name!r} is no float16 constant of the mixed file')
        values = numpy_helper.to_array(tensor).astype(np.float32)
        rounded = np.broadcast_to(_half(scales), values.shape[:1])
        by_channel = rounded.astype(np.float32).reshape(-1, *[1] * (values.ndim - 1))
        levels = np.clip(np.rint(values / by_channel), -MAX_LEVEL, MAX_LEVEL).astype(np.int8)
        stem = f'{name}__int8'
        inputs = [
            self._add(f'{stem}_q', levels),
            self._add(f'{stem}_scale', rounded),
            self._add(f'{stem}_zero', np.zeros(rounded.shape, np.int8)),
        ]
        self.nodes.append(
            helper.make_node('DequantizeLinear', inputs, [stem], f'{stem}_dq', axis=0)
        )
        return stem

    def _add(self, name: str, values: NDArray[Any]) -> str:
        self.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name


def _scale(node: onnx.NodeProto, tensors: dict[str, onnx.TensorProto]) -> NDArray[np.float32]:
    zero = numpy_helper.to_array(tensors[node.input[2]]) if len(node.input) > 2 else np.int8(0)
    if zero.dtype != np.int8 or zero.any():
        raise QuantizationError(
            f'{node.name}: zero point {zero.dtype} {zero.reshape(-1)[:1]} found, int8 0 expected: '
            'TensorRT takes symmetric pairs only'
        )
    return numpy_helper.to_array(tensors[node.input[1]]).astype(np.float32)


def _half(scale: float | NDArray[np.float32]) -> NDArray[np.float16]:
    """Round to float16, never to 0: a channel without weights may have any positive scale."""
    return np.maximum(np.asarray(scale, np.float32), SMALLEST_HALF).astype(np.float16)
