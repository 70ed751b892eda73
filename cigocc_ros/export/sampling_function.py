"""Deformable sampling in ONNX files: one operator that TensorRT knows and others can read.

Everything but TensorRT takes the body: `model.deform_attention` for one map in plain operators.
TensorRT has a plugin of this name, and which of the two its parser takes differs by release (see
`runtime.tensorrt.network.parse_network`, which leaves it no choice). Calls say the version and the
namespace of that plugin, which from 10.15 on makes the parser look for it.
The operator has the plugin's contract: value (N, S, M, D), spatial_shapes (1, 2) int32,
level_start_index (1,) int32, sampling_locations (N, Q, M, 1, P, 2) in [0, 1], attention_weights
(N, Q, M, 1, P); returns (N, Q, M, D). The plugin wants one type for the first and the last two;
here that is float32, because locations in float16 miss by pixels.
"""

from __future__ import annotations

import onnx
import onnx.parser

from cigocc_ros.core.onnx_file import PLUGIN_VERSION, SAMPLE_DOMAIN, SAMPLE_OP

# msda_: TensorRT before 10.8 mixes up tensors inside and outside of a function of one name.
_BODY = f"""
<opset_import: ["": 18], domain: "{SAMPLE_DOMAIN}">
{SAMPLE_OP} (msda_value, msda_spatial_shapes, msda_level_start_index, msda_sampling_locations,
    msda_attention_weights)
    => (msda_output)
{{
    msda_batch = Shape <start = 0, end = 1> (msda_value)
    msda_heads = Shape <start = 2, end = 3> (msda_value)
    msda_depth = Shape <start = 3, end = 4> (msda_value)
    msda_queries = Shape <start = 1, end = 2> (msda_sampling_locations)
    msda_points = Shape <start = 4, end = 5> (msda_sampling_locations)
    msda_images = Mul (msda_batch, msda_heads)
    msda_whole = Constant <value_ints = [-1]> ()
    msda_one = Constant <value_ints = [1]> ()
    msda_pair = Constant <value_ints = [2]> ()

    msda_columns = Transpose <perm = [0, 2, 3, 1]> (msda_value)
    msda_long_shapes = Cast <to = 7> (msda_spatial_shapes)
    msda_height_width = Reshape (msda_long_shapes, msda_whole)
    msda_image_shape = Concat <axis = 0> (msda_images, msda_depth, msda_height_width)
    msda_image = Reshape (msda_columns, msda_image_shape)

    msda_two = Constant <value_float = 2.0> ()
    msda_unit = Constant <value_float = 1.0> ()
    msda_doubled = Mul (msda_sampling_locations, msda_two)
    msda_centered = Sub (msda_doubled, msda_unit)
    msda_by_head = Transpose <perm = [0, 2, 3, 1, 4, 5]> (msda_centered)
    msda_grid_shape = Concat <axis = 0> (msda_images, msda_queries, msda_points, msda_pair)
    msda_grid = Reshape (msda_by_head, msda_grid_shape)

    msda_sampled = GridSample <mode = "bilinear", padding_mode = "zeros", align_corners = 0>
        (msda_image, msda_grid)
    msda_weights_by_head = Transpose <perm = [0, 2, 3, 1, 4]> (msda_attention_weights)
    msda_weight_shape = Concat <axis = 0> (msda_images, msda_one, msda_queries, msda_points)
    msda_weight = Reshape (msda_weights_by_head, msda_weight_shape)
    msda_weighted = Mul (msda_sampled, msda_weight)
    msda_total = ReduceSum <keepdims = 0> (msda_weighted, msda_whole)
    msda_total_shape = Concat <axis = 0> (msda_batch, msda_heads, msda_depth, msda_queries)
    msda_split = Reshape (msda_total, msda_total_shape)
    msda_output = Transpose <perm = [0, 3, 1, 2]> (msda_split)
}}
"""


_PLUGIN = {'plugin_version': PLUGIN_VERSION, 'plugin_namespace': ''}


def sampling_function() -> onnx.FunctionProto:
    """Return the local function; `onnx.checker` accepts it in a model of IR version 10."""
    function: onnx.FunctionProto = onnx.parser.parse_function(_BODY)
    return function


def add_sampling_function(model: onnx.ModelProto) -> None:
    """Give the calls in `model` their body and the model the domain; nothing without calls."""
    calls = [node for node in model.graph.node if is_sampling(node)]
    if not calls:
        return
    for node in calls:
        node.attribute.extend(onnx.helper.make_attribute(*pair) for pair in _PLUGIN.items())
    model.functions.append(sampling_function())
    if SAMPLE_DOMAIN not in {entry.domain for entry in model.opset_import}:
        model.opset_import.append(onnx.helper.make_opsetid(SAMPLE_DOMAIN, 1))


def is_sampling(node: onnx.NodeProto) -> bool:
    """Return whether the node calls the operator."""
    return (node.domain, node.op_type) == (SAMPLE_DOMAIN, SAMPLE_OP)
