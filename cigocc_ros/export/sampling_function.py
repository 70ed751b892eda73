"""Deformable sampling in ONNX files: one operator that TensorRT knows and others can read.

TensorRT from 10.7 on takes its stock plugin of this name; everything else (older TensorRT, ONNX
Runtime, OpenVINO) takes the body: `model.deform_attention` for one map in plain operators.
The operator has the plugin's contract: value (N, S, M, D), spatial_shapes (1, 2) int32,
level_start_index (1,) int32, sampling_locations (N, Q, M, 1, P, 2) in [0, 1], attention_weights
(N, Q, M, 1, P); returns (N, Q, M, D). The plugin wants one type for the first and the last two;
here that is float32, because locations in float16 miss by pixels.
"""

from __future__ import annotations

import onnx
import onnx.parser

from cigocc_ros.model.deform_attention import SAMPLE_DOMAIN, SAMPLE_OP

_BODY = f"""
<opset_import: ["": 18], domain: "{SAMPLE_DOMAIN}">
{SAMPLE_OP} (value, spatial_shapes, level_start_index, sampling_locations, attention_weights)
    => (output)
{{
    batch = Shape <start = 0, end = 1> (value)
    heads = Shape <start = 2, end = 3> (value)
    depth = Shape <start = 3, end = 4> (value)
    queries = Shape <start = 1, end = 2> (sampling_locations)
    points = Shape <start = 4, end = 5> (sampling_locations)
    images = Mul (batch, heads)
    whole = Constant <value_ints = [-1]> ()
    one = Constant <value_ints = [1]> ()
    pair = Constant <value_ints = [2]> ()

    columns = Transpose <perm = [0, 2, 3, 1]> (value)
    long_shapes = Cast <to = 7> (spatial_shapes)
    height_width = Reshape (long_shapes, whole)
    image_shape = Concat <axis = 0> (images, depth, height_width)
    image = Reshape (columns, image_shape)

    two = Constant <value_float = 2.0> ()
    unit = Constant <value_float = 1.0> ()
    doubled = Mul (sampling_locations, two)
    centered = Sub (doubled, unit)
    by_head = Transpose <perm = [0, 2, 3, 1, 4, 5]> (centered)
    grid_shape = Concat <axis = 0> (images, queries, points, pair)
    grid = Reshape (by_head, grid_shape)

    sampled = GridSample <mode = "bilinear", padding_mode = "zeros", align_corners = 0>
        (image, grid)
    weights_by_head = Transpose <perm = [0, 2, 3, 1, 4]> (attention_weights)
    weight_shape = Concat <axis = 0> (images, one, queries, points)
    weight = Reshape (weights_by_head, weight_shape)
    weighted = Mul (sampled, weight)
    total = ReduceSum <keepdims = 0> (weighted, whole)
    total_shape = Concat <axis = 0> (batch, heads, depth, queries)
    split = Reshape (total, total_shape)
    output = Transpose <perm = [0, 3, 1, 2]> (split)
}}
"""


def sampling_function() -> onnx.FunctionProto:
    """Return the local function; `onnx.checker` accepts it in a model of IR version 10."""
    function: onnx.FunctionProto = onnx.parser.parse_function(_BODY)
    return function


def add_sampling_function(model: onnx.ModelProto) -> None:
    """Give the calls in `model` their body and the model the domain; nothing without calls."""
    if not any(is_sampling(node) for node in model.graph.node):
        return
    model.functions.append(sampling_function())
    if SAMPLE_DOMAIN not in {entry.domain for entry in model.opset_import}:
        model.opset_import.append(onnx.helper.make_opsetid(SAMPLE_DOMAIN, 1))


def is_sampling(node: onnx.NodeProto) -> bool:
    """Return whether the node calls the operator."""
    return (node.domain, node.op_type) == (SAMPLE_DOMAIN, SAMPLE_OP)
