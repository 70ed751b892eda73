"""Run a checkpoint with torch: the reference that every other engine is compared with."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

from cigocc_ros.core.calibration import (
    CALIBRATION_FILE,
    Calibration,
    calibration_of_weights,
)
from cigocc_ros.core.errors import EngineError
from cigocc_ros.core.manifest import ModelManifest
from cigocc_ros.runtime.contract import (
    DEFAULT_THREADS,
    Arrays,
    check_arrays,
    check_specs,
    manifest_for,
)
from cigocc_ros.runtime.devices import CPU, gpu_ordinal, is_gpu


class TorchEngine:
    """A checkpoint folder of `cigocc train` behind the engine protocol; loads torch lazily."""

    def __init__(
        self,
        checkpoint_dir: Path,
        manifest: ModelManifest,
        threads: int = DEFAULT_THREADS,
        device: str = CPU,
        with_logits: bool = False,
    ) -> None:
        """Load the weights; `threads` > 0 sets torch's, for the whole process.

        `device` is one of `devices`; TF32 is off on a GPU, for the whole process. `with_logits`
        adds them to the outputs; the calibration is the manifest's. Raises
        DataFileError or ConfigError for a broken checkpoint, ManifestError where it does not fit
        `manifest`, EngineError without torch or the GPU that is demanded.
        """
        torch = _import_torch()
        from cigocc_ros.model.build import load_checkpoint
        from cigocc_ros.model.output import ExportModel

        if threads > 0:
            torch.set_num_threads(threads)
        model = load_checkpoint(checkpoint_dir)
        own = _manifest(model.config, checkpoint_dir)
        check_specs(f'{checkpoint_dir}: inputs', manifest.inputs, own.inputs)
        check_specs(f'{checkpoint_dir}: outputs', manifest.outputs, own.outputs)
        self._device, where = _torch_device(torch, device)
        exported = ExportModel(model, with_logits, manifest.calibration)
        self._model: Any = exported.to(self._device)
        self._output_names = exported.output_names
        self.name, self.on_gpu = f'torch {torch.__version__} {where}', self._device.type != 'cpu'
        self.inputs, self.outputs = own.inputs, own.outputs

    def run(self, arrays: Arrays) -> Arrays:
        """Return the named outputs."""
        if self._model is None:
            raise EngineError(f'{self.name}: run() after close()')
        check_arrays(self.inputs, arrays)
        torch = _import_torch()
        # A copy: cached matrices are read-only, which torch does not know.
        tensors = [torch.from_numpy(arrays[spec.name].copy()) for spec in self.inputs]
        try:
            with torch.inference_mode():
                outputs = self._model(*(tensor.to(self._device) for tensor in tensors))
            named = zip(self._output_names, outputs, strict=True)
            return {name: tensor.cpu().numpy() for name, tensor in named}
        except RuntimeError as error:  # out of memory, a lost GPU
            raise EngineError(f'{self.name}: {error}') from error

    def close(self) -> None:
        """Release the weights."""
        self._model = None


def _torch_device(torch: Any, device: str) -> tuple[Any, str]:
    """Return torch's device and its name in words; raise EngineError."""
    cuda = device != CPU and torch.cuda.is_available()
    if not cuda:
        if is_gpu(device):
            raise EngineError(
                f'device {device!r}: torch {torch.__version__} sees no GPU (built for CUDA: '
                f'{torch.version.cuda or "no"}): install a torch with CUDA and see nvidia-smi'
            )
        return torch.device('cpu'), 'CPU'
    ordinal = gpu_ordinal(device)
    # Rounds factors to 10 bits; on by default in cuDNN, and projections would be off by a pixel.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    return torch.device('cuda', ordinal), f'CUDA {ordinal}, {torch.cuda.get_device_name(ordinal)}'


def load_checkpoint_manifest(checkpoint_dir: Path, with_calibration: bool = True) -> ModelManifest:
    """Return the contract of a checkpoint folder, which has no manifest.

    Its calibration is that of CALIBRATION_FILE in the folder, where there is one and it is
    wanted. Raises
    DataFileError or ConfigError for a broken config or calibration, EngineError without torch.
    """
    _import_torch()
    from cigocc_ros.model.build import checkpoint_config
    from cigocc_ros.model.weight_files import weights_sha256

    calibration = None
    path = checkpoint_dir / CALIBRATION_FILE
    if with_calibration and path.is_file():
        calibration = calibration_of_weights(path, weights_sha256(checkpoint_dir))
    return _manifest(checkpoint_config(checkpoint_dir), checkpoint_dir, calibration)


def _manifest(
    config: Any, checkpoint_dir: Path, calibration: Calibration | None = None
) -> ModelManifest:
    from cigocc_ros.model.build import read_checkpoint_record

    training = read_checkpoint_record(checkpoint_dir)
    return manifest_for(
        config,
        checkpoint_dir.name,
        license='unreleased',
        files={},
        training=training,
        class_probability=True,
        calibration=calibration,
    )


def _import_torch() -> ModuleType:
    try:
        import torch
    except ImportError as error:
        raise EngineError(
            'backend torch: torch is not installed; use backend onnxruntime, or install it with '
            '"pip install torch --index-url https://download.pytorch.org/whl/cpu"'
        ) from error
    module: ModuleType = torch
    return module
