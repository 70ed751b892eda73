"""Open what a comparison names: BACKEND:MODEL, MODEL a folder, a shipped name or one ONNX file."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.frames import CameraFrame
from cigocc_ros.core.manifest import (
    MIXED_ROLE,
    ONNX_SUFFIX,
    ModelManifest,
    file_spec,
    load_manifest,
    verified_file,
)
from cigocc_ros.core.onnx_file import opset_of
from cigocc_ros.runtime.contract import DEFAULT_THREADS, ONNX_ROLE, Arrays
from cigocc_ros.runtime.engine import AUTO, BACKENDS, TENSORRT, TORCH, Engine, create_engine
from cigocc_ros.runtime.onnxruntime_engine import OnnxRuntimeEngine
from cigocc_ros.runtime.predictor import find_model_dir
from cigocc_ros.runtime.preprocess import Preprocessor
from cigocc_ros.runtime.tensorrt.options import ONNX_ROLES, TensorRtOptions, choose_precision

ROUNDED = 'rounded'
"""The mixed float16 file with every rounding done on purpose: a CPU runtime hides most of them."""
KINDS = (*(name for name in BACKENDS if name != AUTO), ROUNDED)


@dataclass(frozen=True)
class EngineUnderTest:
    """One way of running one network, ready to run: a `NetworkUnderTest` of evaluation."""

    text: str
    """As the user named it."""
    engine: Engine
    manifest: ModelManifest
    file: str
    sha256: str | None
    """None for a checkpoint, which is more than one file."""

    @property
    def engine_name(self) -> str:
        """What runs it, with its version."""
        return self.engine.name

    def prepare(self, frame: CameraFrame) -> Arrays:
        """Return the named inputs of the network for a frame."""
        return self._preprocess(frame)

    def run(self, inputs: Arrays) -> Arrays:
        """Return the named outputs."""
        return self.engine.run(inputs)

    def close(self) -> None:
        """Release the engine."""
        self.engine.close()

    @cached_property
    def _preprocess(self) -> Preprocessor:
        return Preprocessor.of(self.manifest)


def open_engine(text: str, threads: int = DEFAULT_THREADS) -> EngineUnderTest:
    """Load BACKEND:MODEL; raise ConfigError for another form, else what `create_engine` raises."""
    backend, colon, model = text.partition(':')
    if not colon or not model or backend not in KINDS:
        raise ConfigError(
            f'{text!r}: expected BACKEND:MODEL with a backend of {", ".join(KINDS)}, for example '
            'onnxruntime:mid, torch:runs/mid/best or onnxruntime:models/mid/model_fp16.onnx'
        )
    if backend == TORCH:
        return _open_checkpoint(text, Path(model), threads)
    folder, manifest = model_of(model)
    role = ONNX_ROLE if _is_file(model) else _role(backend, manifest)
    if backend == ROUNDED:
        engine = open_rounded(folder, manifest, role, threads)
    else:
        engine = create_engine(backend, folder, manifest, threads)
    spec = manifest.file(role)
    return EngineUnderTest(text, engine, manifest, spec.path, spec.sha256)


def model_of(model: str) -> tuple[Path, ModelManifest]:
    """Return folder and manifest of a model; one ONNX file of a folder becomes its only network.

    A file that the manifest lists must be the listed one; another, made by hand, must have the
    manifest's tensors. Raises ManifestError.
    """
    path = Path(model)
    if not _is_file(model):
        folder = find_model_dir(model)
        return folder, load_manifest(folder)
    manifest = load_manifest(path.parent)
    for role, spec in manifest.files.items():
        if spec.path == path.name:
            verified_file(path.parent, manifest, role)
            return path.parent, replace(manifest, files={ONNX_ROLE: spec})
    if not path.is_file():
        raise ConfigError(f'{path}: no such file')
    made = {ONNX_ROLE: file_spec(path.parent, path.name)}
    opset = opset_of(path.read_bytes(), str(path))
    return path.parent, replace(manifest, files=made, opset=opset)


def open_rounded(folder: Path, manifest: ModelManifest, role: str, threads: int) -> Engine:
    """Return an engine of a mixed float16 file that rounds as a GPU does.

    Raises ManifestError where the model has no such file.
    """
    import onnx

    from cigocc_ros.export.half_emulation import emulated

    mixed = onnx.load(verified_file(folder, manifest, role))
    staging = Path(tempfile.mkdtemp(prefix='cigocc-'))
    try:
        onnx.save_model(emulated(mixed), staging / 'rounded.onnx')
        files = {ONNX_ROLE: file_spec(staging, 'rounded.onnx')}
        engine = OnnxRuntimeEngine(staging, replace(manifest, files=files), threads)
    finally:
        shutil.rmtree(staging)
    engine.name += ', float16 rounding emulated'
    return engine


def _open_checkpoint(text: str, folder: Path, threads: int) -> EngineUnderTest:
    from cigocc_ros.runtime.torch_engine import load_checkpoint_manifest

    manifest = load_checkpoint_manifest(folder)
    engine = create_engine(TORCH, folder, manifest, threads)
    return EngineUnderTest(text, engine, manifest, 'checkpoint', None)


def _role(backend: str, manifest: ModelManifest) -> str:
    """Return the role of the file that a backend runs of a model folder."""
    if backend == TENSORRT:
        return ONNX_ROLES[choose_precision(TensorRtOptions(), manifest)]
    return MIXED_ROLE if backend == ROUNDED else ONNX_ROLE


def _is_file(model: str) -> bool:
    return Path(model).suffix == ONNX_SUFFIX
