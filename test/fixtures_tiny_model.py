"""Model folders for tests, written in milliseconds without torch.

`build_tiny_model_dir` makes a real engine-contract ONNX file whose answer a test can compute by
hand: every voxel centre is projected with `pixel_from_velo`; inside the image its label is
`1 + red * 19 // 256` of the nearest pixel and its probability 255, unless red is 0 or the pixel's
`depth_prior` is known and more than DEPTH_TOLERANCE_M away; all other voxels are empty with 0.
The probability of its class is its red, in 1/255, unless it is made as a model of 0.1.0.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from cigocc_ros.core.config import BackboneConfig, ModelConfig
from cigocc_ros.core.manifest import (
    ModelManifest,
    TensorSpec,
    file_spec,
    load_manifest,
    write_manifest,
)
from cigocc_ros.runtime.contract import manifest_for

DEPTH_TOLERANCE_M = 2.0
ONNX_TYPES = {'uint8': TensorProto.UINT8, 'float32': TensorProto.FLOAT}

TINY_CONFIG = ModelConfig(
    name='handmade',
    image_size=(48, 160),
    output_shape=(32, 32, 8),
    query_shape=(16, 16, 4),
    channels=16,
    semantic_channels=16,
    backbone=BackboneConfig('basic', 8, (8, 16, 16), (1, 1, 1)),
    unet_widths=(16, 24),
    num_heads=2,
    num_points=4,
    cross_layers=1,
    self_layers=1,
    ffn_channels=32,
    max_proposals=512,
)


def build_tiny_model_dir(
    path: Path, config: ModelConfig = TINY_CONFIG, class_probability: bool = True
) -> Path:
    """Write model.onnx and manifest.yaml into folder `path` (created) and return it."""
    path.mkdir(parents=True, exist_ok=True)
    manifest = manifest_for(
        config,
        config.name,
        license='Apache-2.0',
        files={},
        training={},
        class_probability=class_probability,
    )
    write_onnx(path / 'model.onnx', handmade_graph(manifest))
    write_manifest(path, replace(manifest, files={'onnx': file_spec(path, 'model.onnx')}))
    return path


def say_trained(folder: Path, **settings: Any) -> None:
    """Let the manifest of a model folder say what it was trained with."""
    manifest = load_manifest(folder)
    write_manifest(folder, replace(manifest, training={'train': settings}))


def expected_outputs(arrays: dict[str, NDArray[Any]], manifest: ModelManifest) -> dict[str, Any]:
    """Return what the handmade network answers, computed by numpy."""
    height, width = manifest.image_size
    matrix = arrays['pixel_from_velo'][0]
    homogeneous = manifest.voxel_grid.centers_m().astype(np.float32) @ matrix[:, :3].T
    homogeneous = homogeneous + matrix[:, 3]
    depth = homogeneous[..., 2]
    with np.errstate(all='ignore'):
        u, v = homogeneous[..., 0] / depth, homogeneous[..., 1] / depth
    seen = (depth > 1e-5) & (u > 0) & (u < width) & (v > 0) & (v < height)
    column = np.clip(np.rint(np.where(seen, u, 0)), 0, width - 1).astype(int)
    row = np.clip(np.rint(np.where(seen, v, 0)), 0, height - 1).astype(int)
    red = arrays['image'][0, row, column, 0].astype(int)
    prior = arrays['depth_prior'][0, row, column]
    solid = seen & (red > 0) & ((prior == 0) | (np.abs(prior - depth) <= DEPTH_TOLERANCE_M))
    labels = np.where(solid, 1 + red * 19 // 256, 0).astype(np.uint8)
    outputs = {
        'labels': labels,
        'occupied_probability': (solid * 255).astype(np.uint8),
        'class_probability': np.where(solid, red, 0).astype(np.uint8),
    }
    return {spec.name: outputs[spec.name][None] for spec in manifest.outputs}


def write_onnx(path: Path, graph: onnx.GraphProto) -> None:
    """Check and write a graph as an opset 18 model."""
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 18)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save_model(model, path)


def value_infos(specs: tuple[TensorSpec, ...]) -> list[onnx.ValueInfoProto]:
    """Return the ONNX declarations of tensors."""
    return [helper.make_tensor_value_info(s.name, ONNX_TYPES[s.dtype], s.shape) for s in specs]


def handmade_graph(manifest: ModelManifest) -> onnx.GraphProto:
    """Return the graph of the module docstring."""
    height, width = manifest.image_size
    centers = manifest.voxel_grid.centers_m().reshape(-1, 3).astype(np.float32)
    constants = {
        'points': np.vstack([centers.T, np.ones(len(centers), np.float32)]),
        'zero': np.float32(0),
        'near': np.float32(1e-5),
        'width': np.float32(width),
        'height': np.float32(height),
        'last_column': np.float32(width - 1),
        'last_row': np.float32(height - 1),
        'tolerance': np.float32(DEPTH_TOLERANCE_M),
        'first_axis': np.array([0]),
        'flat_pixels': np.array([height * width, 3]),
        'flat_depth': np.array([height * width]),
        'shape': np.array(manifest.outputs[0].shape),
        'red_index': np.array(0),
        'classes': np.int32(19),
        'levels': np.int32(256),
        'one': np.int32(1),
        'none': np.int32(0),
        'full': np.int32(255),
    }
    tensors = [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()]
    nodes = [*_projection_nodes(), *_lookup_nodes(), *_answer_nodes()]
    if manifest.gives_class_probability:
        nodes[-2:-2] = _class_nodes()
    return helper.make_graph(
        nodes, 'handmade', value_infos(manifest.inputs), value_infos(manifest.outputs), tensors
    )


def _node(kind: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), output.split(), **attributes)


def _projection_nodes() -> list[onnx.NodeProto]:
    return [
        _node('Squeeze', 'pixel_from_velo first_axis', 'matrix'),
        _node('MatMul', 'matrix points', 'projected'),
        _node('Split', 'projected', 'us vs depth', axis=0, num_outputs=3),
        _node('Div', 'us depth', 'u'),
        _node('Div', 'vs depth', 'v'),
        _node('Greater', 'depth near', 'front'),
        _node('Greater', 'u zero', 'right_of_left'),
        _node('Less', 'u width', 'left_of_right'),
        _node('Greater', 'v zero', 'below_top'),
        _node('Less', 'v height', 'above_bottom'),
        _node('And', 'right_of_left left_of_right', 'seen_u'),
        _node('And', 'below_top above_bottom', 'seen_v'),
        _node('And', 'seen_u seen_v', 'seen_uv'),
        _node('And', 'seen_uv front', 'seen'),
    ]


def _lookup_nodes() -> list[onnx.NodeProto]:
    return [
        _node('Where', 'seen u zero', 'safe_u'),
        _node('Where', 'seen v zero', 'safe_v'),
        _node('Round', 'safe_u', 'round_u'),
        _node('Round', 'safe_v', 'round_v'),
        _node('Clip', 'round_u zero last_column', 'column'),
        _node('Clip', 'round_v zero last_row', 'row'),
        _node('Mul', 'row width', 'row_start'),
        _node('Add', 'row_start column', 'flat'),
        _node('Cast', 'flat', 'pixel', to=TensorProto.INT64),
        # cast first: TensorRT knows bytes at the borders of a network only
        _node('Cast', 'image', 'image_numbers', to=TensorProto.INT32),
        _node('Reshape', 'image_numbers flat_pixels', 'colours'),
        _node('Gather', 'colours red_index', 'reds', axis=1),
        _node('Gather', 'reds pixel', 'red'),
        _node('Reshape', 'depth_prior flat_depth', 'depths'),
        _node('Gather', 'depths pixel', 'prior'),
    ]


def _class_nodes() -> list[onnx.NodeProto]:
    return [
        _node('Where', 'solid red none', 'sureness'),
        _node('Reshape', 'sureness shape', 'sure_numbers'),
        _node('Cast', 'sure_numbers', 'class_probability', to=TensorProto.UINT8),
    ]


def _answer_nodes() -> list[onnx.NodeProto]:
    return [
        _node('Sub', 'prior depth', 'difference'),
        _node('Abs', 'difference', 'distance'),
        _node('LessOrEqual', 'distance tolerance', 'near_prior'),
        _node('Equal', 'prior zero', 'no_prior'),
        _node('Or', 'near_prior no_prior', 'depth_fits'),
        _node('Greater', 'red none', 'lit'),
        _node('And', 'lit depth_fits', 'filled'),
        _node('And', 'filled seen', 'solid'),
        _node('Mul', 'red classes', 'scaled'),
        _node('Div', 'scaled levels', 'step'),
        _node('Add', 'step one', 'label'),
        _node('Where', 'solid label none', 'label_or_empty'),
        _node('Where', 'solid full none', 'probability'),
        _node('Reshape', 'label_or_empty shape', 'label_numbers'),
        _node('Reshape', 'probability shape', 'probability_numbers'),
        _node('Cast', 'label_numbers', 'labels', to=TensorProto.UINT8),
        _node('Cast', 'probability_numbers', 'occupied_probability', to=TensorProto.UINT8),
    ]
