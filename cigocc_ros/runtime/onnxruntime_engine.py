"""Run model.onnx with ONNX Runtime on the CPU; torch is never imported."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from cigocc_ros.core.errors import EngineError
from cigocc_ros.core.manifest import ModelManifest, TensorSpec, verified_content
from cigocc_ros.runtime.contract import (
    DEFAULT_THREADS,
    ONNX_ROLE,
    Arrays,
    check_arrays,
    check_manifest,
    check_specs,
)

NUMPY_NAMES = {
    'tensor(uint8)': 'uint8',
    'tensor(float)': 'float32',
    'tensor(float16)': 'float16',
    'tensor(double)': 'float64',
    'tensor(int32)': 'int32',
    'tensor(int64)': 'int64',
    'tensor(bool)': 'bool',
}


class OnnxRuntimeEngine:
    """A session whose tensors were checked against the manifest before the first run."""

    def __init__(
        self, model_dir: Path, manifest: ModelManifest, threads: int = DEFAULT_THREADS
    ) -> None:
        """Verify hash, load, compare the graph's tensors with the manifest's.

        Raises ManifestError for a changed file or other tensors, EngineError where ONNX Runtime
        is missing or cannot read the file.
        """
        check_manifest(manifest)
        path = model_dir / manifest.file(ONNX_ROLE).path
        content = verified_content(model_dir, manifest, ONNX_ROLE)
        self._session: Any = open_session(path, threads, content)
        self.name = f'onnxruntime {_import_onnxruntime().__version__} CPU'
        self.inputs = _specs(self._session.get_inputs())
        self.outputs = _specs(self._session.get_outputs())
        check_specs(f'{path}: inputs', manifest.inputs, self.inputs)
        check_specs(f'{path}: outputs', manifest.outputs, self.outputs)
        self._output_names = [spec.name for spec in self.outputs]

    def run(self, arrays: Arrays) -> Arrays:
        """Return the named outputs; the arrays are the caller's to keep."""
        if self._session is None:
            raise EngineError(f'{self.name}: run() after close()')
        check_arrays(self.inputs, arrays)
        outputs = self._session.run(self._output_names, arrays)
        return dict(zip(self._output_names, outputs, strict=True))

    def close(self) -> None:
        """Release the session and its memory."""
        self._session = None


def open_session(path: Path, threads: int = DEFAULT_THREADS, content: bytes | None = None) -> Any:
    """Return a CPU session of an ONNX file; raise EngineError where it cannot load.

    `content` are its bytes where they were checked; without them the file is loaded, unchecked.
    """
    runtime = _import_onnxruntime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning workers burn cores between frames and gain nothing measurable at camera rate.
    options.add_session_config_entry('session.intra_op.allow_spinning', '0')
    options.log_severity_level = 3
    source = str(path) if content is None else content
    try:
        return runtime.InferenceSession(source, options, providers=['CPUExecutionProvider'])
    except Exception as error:  # ONNX Runtime's own exceptions share no base class
        raise EngineError(f'{path}: ONNX Runtime cannot load it: {error}') from error


def _specs(nodes: Iterable[Any]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(node.name, NUMPY_NAMES.get(node.type, node.type), tuple(node.shape))
        for node in nodes
    )


def _import_onnxruntime() -> ModuleType:
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineError(
            'onnxruntime is not installed; install it with "pip install onnxruntime"'
        ) from error
    module: ModuleType = onnxruntime
    return module
