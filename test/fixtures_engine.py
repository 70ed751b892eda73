"""Model folders with stored answers, and engines of them on the fake TensorRT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from fixtures_tiny_model import build_tiny_model_dir, expected_outputs
from onnx import helper, numpy_helper

from cigocc_ros.core.camera import CameraModel
from cigocc_ros.core.frames import CameraFrame
from cigocc_ros.core.manifest import ModelManifest, file_spec, load_manifest, write_manifest
from cigocc_ros.runtime.loading import Loading
from cigocc_ros.runtime.preprocess import Preprocessor
from cigocc_ros.runtime.self_check import GOLDEN_FILE, Golden, save_golden
from cigocc_ros.runtime.tensorrt.builder import BuildResult, build_engine
from cigocc_ros.runtime.tensorrt.options import TensorRtOptions

FORWARD = np.array([[0.0, -1, 0, 0], [0, 0, -1, -0.08], [1, 0, 0, -0.27], [0, 0, 0, 1]])
WAIT_S = 60.0


def frame_inputs(manifest: ModelManifest, seed: int = 0) -> dict[str, Any]:
    """Return the network's inputs for a picture of shades."""
    rng = np.random.default_rng(seed)
    height, width = manifest.image_size
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    camera = CameraModel.from_intrinsics(
        0.6 * width, 0.6 * width, width / 2, height / 2, width, height
    )
    frame = CameraFrame(image, camera, FORWARD, 0, 'camera')
    return dict(Preprocessor(manifest.image_size)(frame))


def build_golden_model_dir(folder: Path) -> Path:
    """Write the handmade model with the answers that it must give."""
    build_tiny_model_dir(folder)
    manifest = load_manifest(folder)
    arrays = frame_inputs(manifest, seed=9)
    save_golden(folder / GOLDEN_FILE, Golden(arrays, expected_outputs(arrays, manifest)))
    files = {**manifest.files, 'golden': file_spec(folder, GOLDEN_FILE)}
    write_manifest(folder, replace(manifest, files=files))
    return folder


FED = ('fed_value', 'fed_shapes', 'fed_start', 'fed_locations', 'fed_weights')


def add_sampling_calls(folder: Path, names: Sequence[str] = FED, calls: int = 2) -> Path:
    """Let the handmade model call deformable sampling; its answers do not use the result.

    `names` are those of the arguments outside of the function.
    """
    from cigocc_ros.export.sampling_function import add_sampling_function
    from cigocc_ros.model.deform_attention import SAMPLE_DOMAIN, SAMPLE_OP

    model = onnx.load_model(folder / 'model.onnx')
    arrays = (
        np.zeros((1, 4, 2, 8), np.float32),
        np.array([[2, 2]], np.int32),
        np.zeros(1, np.int32),
        np.full((1, 3, 2, 1, 2, 2), 0.5, np.float32),
        np.full((1, 3, 2, 1, 2), 0.5, np.float32),
    )
    model.graph.initializer.extend(map(numpy_helper.from_array, arrays, names))
    model.graph.node.extend(
        helper.make_node(SAMPLE_OP, names, [f'sampled_{call}'], domain=SAMPLE_DOMAIN)
        for call in range(calls)
    )
    add_sampling_function(model)
    onnx.checker.check_model(model)
    onnx.save_model(model, folder / 'model.onnx')
    manifest = load_manifest(folder)
    manifest.files['onnx'] = file_spec(folder, 'model.onnx')
    write_manifest(folder, manifest)
    return folder


def build(model_dir: Path, force: bool = False, report: Any = None, **options: Any) -> BuildResult:
    """Build the engine of a model folder in this process."""
    return build_engine(
        model_dir,
        load_manifest(model_dir),
        TensorRtOptions(**options),
        report or (lambda progress: None),
        Loading(),
        force,
    )


def engine_files(folder: Path) -> list[str]:
    """Return the names of engines and descriptions, and of whatever a crash left."""
    names = (path.name for path in folder.iterdir())
    kept = ('.lock', '.timing')  # neither is ever loaded as an engine
    return sorted(name for name in names if '.engine' in name and not name.endswith(kept))
