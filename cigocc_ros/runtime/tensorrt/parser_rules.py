"""What a network must look like once TensorRT's parser has read it; no GPU is needed to look.

The parser is where an ONNX file silently becomes something else: sampling that turns nearest,
sizes that round the other way, locations in float16. `layer_problems` walks the parsed layers of
`tensorrt` or `tensorrt_rtx`; both have the same classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

MAX_TOPK = 3840
MAX_CUMULATIVE = 1
LEARNED = frozenset({'CONVOLUTION', 'DECONVOLUTION', 'MATRIX_MULTIPLY'})
_ENDS = LEARNED | {'SHAPE'}
COMPUTING = frozenset({'ELEMENTWISE', 'UNARY', 'ACTIVATION', 'SOFTMAX', 'REDUCE', 'SCALE'})
"""Layers that round what they compute, as opposed to those that move or convert it."""
WIDE_UNARY = frozenset({'EXP', 'LOG', 'RECIP', 'SQRT'})


@dataclass
class LayerGraph:
    """The layers of a parsed network, who makes which tensor, and what the layers are."""

    layers: list[Any]
    makers: dict[str, int] = field(default_factory=dict)

    def kinds(self) -> Counter[str]:
        """Return how many layers of each type there are."""
        return Counter(layer.type.name for layer in self.layers)

    def learned_types(self) -> Counter[str]:
        """Return the types (FLOAT, HALF) in which products with weights are computed."""
        return Counter(
            layer.get_input(0).dtype.name for layer in self.layers if layer.type.name in LEARNED
        )


def read_layers(trt: Any, network: Any) -> LayerGraph:
    """Return the layers, each as its own class: the base class hides their attributes."""
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    classes = {
        'GRID_SAMPLE': 'IGridSampleLayer',
        'RESIZE': 'IResizeLayer',
        'TOPK': 'ITopKLayer',
        'UNARY': 'IUnaryLayer',
        'REDUCE': 'IReduceLayer',
        'PLUGIN_V2': 'IPluginV2Layer',
        'PLUGIN_V3': 'IPluginV3Layer',
    }
    for layer in layers:
        name = classes.get(layer.type.name)
        if name is not None and hasattr(trt, name):
            layer.__class__ = getattr(trt, name)
    makers = {
        layer.get_output(k).name: i
        for i, layer in enumerate(layers)
        for k in range(layer.num_outputs)
    }
    return LayerGraph(layers, makers)


def layer_problems(parsed: LayerGraph) -> list[str]:
    """Return what would go wrong on a vehicle, one line each with the layer's name."""
    problems = []
    for layer in parsed.layers:
        check = _CHECKS.get(layer.type.name)
        if check is not None:
            problems += [f'{layer.name}: {text}' for text in check(layer)]
    problems += _half_location_problems(parsed)
    count = parsed.kinds()['CUMULATIVE']
    if count > MAX_CUMULATIVE:
        problems.append(
            f'{count} cumulative sums, at most {MAX_CUMULATIVE}: 10.8 and later mix up'
        )
    return problems


def precision_problems(parsed: LayerGraph, precision: str) -> list[str]:
    """Return where layers with weights compute in another type than the file is said to have."""
    types = parsed.learned_types()
    wrong = types['FLOAT'] if precision.startswith('mixed') else types['HALF']
    if not wrong:
        return []
    return [f'{wrong} of {types.total()} layers with weights are not {precision}: {dict(types)}']


def _grid_sample(layer: Any) -> Iterator[str]:
    mode, sample = layer.interpolation_mode.name, layer.sample_mode.name
    if mode != 'LINEAR':
        yield f'samples {mode}, expected LINEAR (was the opset above 18?)'
    if sample != 'FILL':
        yield f'samples {sample} outside, expected FILL (zeros)'
    if layer.align_corners:
        yield 'aligns corners, expected not'
    image, grid = layer.get_input(0), layer.get_input(1)
    if len(image.shape) != 4:
        yield f'samples an input of rank {len(image.shape)}, expected 4'
    yield from _must_be_float('grid', grid)
    yield from _must_be_float('image', image)


def _resize(layer: Any) -> Iterator[str]:
    mode, coordinates = layer.resize_mode.name, layer.coordinate_transformation.name
    if mode == 'LINEAR' and coordinates != 'HALF_PIXEL':
        yield f'resizes LINEAR {coordinates}, expected HALF_PIXEL'
    elif mode == 'NEAREST':
        rounding = layer.nearest_rounding.name
        if (coordinates, rounding) != ('ASYMMETRIC', 'FLOOR'):
            yield f'resizes NEAREST {coordinates} {rounding}, expected ASYMMETRIC FLOOR'
    elif mode not in ('LINEAR', 'NEAREST'):
        yield f'resizes {mode}, expected LINEAR or NEAREST'


def _topk(layer: Any) -> Iterator[str]:
    if layer.k > MAX_TOPK:
        yield f'TopK of {layer.k}, at most {MAX_TOPK}'


def _unary(layer: Any) -> Iterator[str]:
    if layer.op.name in WIDE_UNARY and layer.get_input(0).dtype.name == 'HALF':
        yield f'{layer.op.name} in float16, expected float32'


def _reduce(layer: Any) -> Iterator[str]:
    if layer.op.name in ('SUM', 'PROD') and layer.get_input(0).dtype.name == 'HALF':
        yield f'{layer.op.name} in float16, expected float32'


def _softmax(layer: Any) -> Iterator[str]:
    yield from _must_be_float('softmax', layer.get_input(0))


def _plugin(layer: Any) -> Iterator[str]:
    if layer.num_inputs != 5:
        return
    for position, what in ((0, 'value'), (3, 'locations'), (4, 'weights')):
        yield from _must_be_float(what, layer.get_input(position))


def _must_be_float(what: str, tensor: Any) -> Iterator[str]:
    if tensor.dtype.name != 'FLOAT':
        yield f'{what} is {tensor.dtype.name}, expected FLOAT'


_CHECKS = {
    'GRID_SAMPLE': _grid_sample,
    'RESIZE': _resize,
    'TOPK': _topk,
    'UNARY': _unary,
    'REDUCE': _reduce,
    'SOFTMAX': _softmax,
    'PLUGIN_V2': _plugin,
    'PLUGIN_V3': _plugin,
}


def _half_location_problems(parsed: LayerGraph) -> list[str]:
    """Walk back from every sampler's locations to the layers with weights."""
    wanted = [
        layer.get_input(1 if layer.type.name == 'GRID_SAMPLE' else 3)
        for layer in parsed.layers
        if layer.type.name == 'GRID_SAMPLE'
        or (layer.type.name.startswith('PLUGIN') and layer.num_inputs == 5)
    ]
    seen: set[int] = set()
    problems = []
    while wanted:
        index = parsed.makers.get(wanted.pop().name)
        if index is None or index in seen or parsed.layers[index].type.name in _ENDS:
            continue
        seen.add(index)
        layer = parsed.layers[index]
        if layer.type.name in COMPUTING and layer.get_output(0).dtype.name == 'HALF':
            problems.append(f'{layer.name}: computes sampling locations in float16')
        inputs = (layer.get_input(k) for k in range(layer.num_inputs))
        wanted += [tensor for tensor in inputs if tensor is not None]
    return problems
