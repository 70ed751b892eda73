"""Which processor runs the network: `auto`, `cpu`, or a GPU by its number or UUID."""

from __future__ import annotations

from cigocc_ros.core.errors import EngineError

AUTO_DEVICE, CPU = 'auto', 'cpu'
ANY_GPU = 'cuda'
DEVICE_HELP = (
    'Processor of the network: auto (a GPU where the backend can use one), cpu, or a GPU: cuda, '
    'its number as nvidia-smi lists it, or its UUID'
)


def is_gpu(device: str) -> bool:
    """Whether a GPU is demanded."""
    return device not in (AUTO_DEVICE, CPU)


def gpu_name(device: str) -> str:
    """Return what `find_gpu` takes: empty for any."""
    return '' if device in (AUTO_DEVICE, ANY_GPU) else device


def gpu_ordinal(device: str) -> int:
    """Return how CUDA counts the GPU in this process; 0 for `auto` and `cuda`.

    Raises EngineError where there is no GPU, ConfigError where none is meant.
    """
    from cigocc_ros.runtime.tensorrt.gpus import find_gpu

    return find_gpu(gpu_name(device)).ordinal


def require_no_gpu(device: str, backend: str) -> None:
    """Raise EngineError where a GPU is demanded of a backend that has none here."""
    if is_gpu(device):
        raise EngineError(
            f'device {device!r}: backend {backend} runs on the CPU here; use backend tensorrt, '
            'onnxruntime or torch for a GPU, or device cpu'
        )
