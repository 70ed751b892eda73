"""GPU and TensorRT."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cigocc_ros.core.errors import ConfigError, EngineError
from cigocc_ros.doctor.finding import Finding, fail, ok, warn
from cigocc_ros.runtime.devices import AUTO_DEVICE, CPU, gpu_name, is_gpu
from cigocc_ros.runtime.engine import TENSORRT
from cigocc_ros.runtime.onnxruntime_engine import CUDA_PROVIDER, INSTALL_CUDA, why_not_cuda
from cigocc_ros.runtime.tensorrt.gpus import Gpu, find_gpu
from cigocc_ros.runtime.tensorrt.library import (
    SUPPORTED,
    TensorRt,
    find_tensorrt,
    register_plugins,
)

DRIVER_FILE = Path('/proc/driver/nvidia/version')


@dataclass(frozen=True)
class Accelerator:
    """What TensorRT has to work with; None for what is not usable."""

    library: TensorRt | None
    gpu: Gpu | None


def check_gpu(
    backend: str, driver_file: Path = DRIVER_FILE, device: str = AUTO_DEVICE
) -> tuple[Finding, Gpu | None]:
    """Look for the GPU; its absence is a failure where TensorRT or a GPU was asked for."""
    if device == CPU:
        return ok('gpu', 'not looked for: device cpu'), None
    try:
        gpu = find_gpu(gpu_name(device))
    except ConfigError as error:
        return fail(
            'gpu', str(error), 'a GPU of this machine', 'device:=auto, or one of them'
        ), None
    except EngineError as error:
        if is_gpu(device):
            backend = TENSORRT
        return _no_gpu(str(error), backend, driver_file.is_file()), None
    return ok('gpu', f'{gpu}, {gpu.uuid}, driver for CUDA {gpu.cuda_driver}'), gpu


def check_gpu_without_tensorrt(device: str) -> Finding:
    """Check that ONNX Runtime uses a GPU that TensorRT cannot."""
    reason = why_not_cuda(device)
    if reason:
        expected = 'TensorRT, or ONNX Runtime with CUDA: without either the CPU does all the work'
        return warn('gpu without tensorrt', reason, expected, INSTALL_CUDA)
    return ok('gpu without tensorrt', f'ONNX Runtime has {CUDA_PROVIDER}')


def _no_gpu(reason: str, backend: str, has_driver: bool) -> Finding:
    if has_driver:
        fix = 'look at nvidia-smi; the reason above says what is wrong with the driver'
    else:
        fix = 'install the NVIDIA driver; or stay with backend onnxruntime'
    judge = fail if backend == TENSORRT else warn
    return judge('gpu', reason, 'an NVIDIA GPU, for TensorRT', fix)


def check_tensorrt(backend: str) -> tuple[Finding, TensorRt | None]:
    """Look for TensorRT in a supported version, and load its plugins."""
    judge = fail if backend == TENSORRT else warn
    versions = ', '.join(
        f'{name} {first[0]}.{first[1]} to below {end[0]}'
        for name, (first, end) in SUPPORTED.items()
    )
    fix = 'docs/engine.md, "What it needs"; or stay with backend onnxruntime'
    try:
        library = find_tensorrt()
    except EngineError as error:
        reason, _, _ = str(error).partition(' It comes with')  # `fix` says where to get it
        return judge('tensorrt', reason, versions, fix), None
    try:
        register_plugins(library)
    except EngineError as error:
        fix = 'sudo apt install libnvinfer-plugin10 (the release of libnvinfer)'
        return judge('tensorrt', str(error), 'libnvinfer_plugin beside libnvinfer', fix), None
    plugins = 'has no plugins' if library.is_rtx else 'plugins loaded'
    return ok('tensorrt', f'{library}, {plugins}'), library
