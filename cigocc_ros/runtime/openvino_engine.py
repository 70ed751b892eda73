"""Run model.onnx with OpenVINO on the CPU; an option, faster than ONNX Runtime where measured."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from cigocc_ros.core.errors import EngineError
from cigocc_ros.core.installing import pip_line
from cigocc_ros.core.manifest import ModelManifest, TensorSpec, verified_content
from cigocc_ros.runtime.contract import (
    DEFAULT_THREADS,
    ONNX_ROLE,
    Arrays,
    check_arrays,
    check_manifest,
    check_specs,
)

DEVICE = 'CPU'


class OpenVinoEngine:
    """A compiled model whose tensors were checked against the manifest before the first run."""

    def __init__(
        self,
        model_dir: Path,
        manifest: ModelManifest,
        threads: int = DEFAULT_THREADS,
        role: str = ONNX_ROLE,
    ) -> None:
        """Verify hash, compile, compare the graph's tensors with the manifest's.

        `role` names the file of the manifest. Raises ManifestError for a changed file or other
        tensors, EngineError where OpenVINO is missing or cannot read the file.
        """
        check_manifest(manifest)
        path = model_dir / manifest.file(role).path
        # Checked as bytes, loaded from disk: from bytes, OpenVINO would lose unused inputs.
        verified_content(model_dir, manifest, role)
        compiled = compile_model(path, threads)
        self.name = f'openvino {_short_version()} {DEVICE}'
        self.inputs = _specs(path, compiled.inputs)
        self.outputs = _specs(path, compiled.outputs)
        check_specs(f'{path}: inputs', manifest.inputs, self.inputs)
        check_specs(f'{path}: outputs', manifest.outputs, self.outputs)
        self._request: Any = compiled.create_infer_request()

    def run(self, arrays: Arrays) -> Arrays:
        """Return copies of the named outputs: the next run writes over OpenVINO's own."""
        if self._request is None:
            raise EngineError(f'{self.name}: run() after close()')
        check_arrays(self.inputs, arrays)
        self._request.infer(arrays, share_inputs=True)
        tensors = ((spec.name, self._request.get_tensor(spec.name)) for spec in self.outputs)
        return {name: tensor.data.copy() for name, tensor in tensors}

    def close(self) -> None:
        """Release the network and its memory."""
        self._request = None


def compile_model(path: Path, threads: int = DEFAULT_THREADS) -> Any:
    """Return an ONNX file compiled for the CPU; raise EngineError where that fails.

    Precision is stated: by itself OpenVINO computes in bfloat16 wherever the CPU can, which moves
    labels. It reads threads = 0 as every physical core, as `DEFAULT_THREADS` says.
    """
    openvino = _import_openvino()
    options = {
        'INFERENCE_PRECISION_HINT': 'f32',
        'PERFORMANCE_HINT': 'LATENCY',
        'INFERENCE_NUM_THREADS': threads,
    }
    try:
        return openvino.Core().compile_model(str(path), DEVICE, options)
    except RuntimeError as error:
        raise EngineError(f'{path}: OpenVINO cannot load it: {error}') from error


def _specs(path: Path, ports: Iterable[Any]) -> tuple[TensorSpec, ...]:
    return tuple(_spec(path, port) for port in ports)


def _spec(path: Path, port: Any) -> TensorSpec:
    if not port.partial_shape.is_static:
        raise EngineError(f'{path}: {port.any_name} {port.partial_shape}: static shape expected')
    dtype = port.element_type.to_dtype().name
    return TensorSpec(port.any_name, dtype, tuple(port.partial_shape.to_shape()))


def _short_version() -> str:
    """Return e.g. 2026.4.1, without the build that follows."""
    version: str = _import_openvino().__version__
    return version.partition('-')[0]


def _import_openvino() -> ModuleType:
    try:
        import openvino
    except ImportError as error:
        raise EngineError(
            'backend openvino: openvino is not installed; use backend onnxruntime, or do: '
            f'{pip_line("openvino")}'
        ) from error
    module: ModuleType = openvino
    return module
