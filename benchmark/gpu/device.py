"""What the device is, the peaks that floors are counted with, and how time is taken on it."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmark.gpu.plan import AbsentError
from benchmark.speed.measure import summary

MATRIX, COPY_BYTES = {'cuda': 8192, 'cpu': 512}, {'cuda': 2**30, 'cpu': 2**24}
RUNS, WARM_UP = 20, 5


def require(device: str) -> None:
    """Raise AbsentError where torch cannot use the device."""
    if device.startswith('cuda') and not torch.cuda.is_available():
        raise AbsentError(f'torch {torch.__version__} sees no CUDA device')


def measure_device(device: str) -> dict[str, Any]:
    """Return name, memory, versions, and reachable FLOP/s of matrices and bytes/s of copies."""
    require(device)
    kind = torch.device(device).type
    return {
        **(_gpu() if kind == 'cuda' else {'name': platform.processor() or platform.machine()}),
        'torch': torch.__version__,
        'python': platform.python_version(),
        'peaks': {
            'fp32_flops': _matrix_flops(device, torch.float32),
            'fp16_flops': _matrix_flops(device, torch.float16),
            'bytes_per_s': _copy_rate(device),
        },
    }


def _gpu() -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(0)
    return {
        'name': properties.name,
        'compute_capability': f'{properties.major}.{properties.minor}',
        'memory_gb': round(properties.total_memory / 2**30, 1),
        'cuda': torch.version.cuda,
        'cudnn': torch.backends.cudnn.version(),
    }


def _matrix_flops(device: str, dtype: torch.dtype) -> float:
    size = MATRIX[torch.device(device).type]
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    median_ms: float = summary(timed(lambda: a @ b, device, RUNS))['median_ms']
    return 2 * size**3 / (1e-3 * median_ms)


def _copy_rate(device: str) -> float:
    """Return bytes read and written per second, of random numbers: zeros are compressed."""
    size = COPY_BYTES[torch.device(device).type]
    source = torch.rand(size // 4, device=device)
    target = torch.empty_like(source)
    median_ms: float = summary(timed(lambda: target.copy_(source), device, RUNS))['median_ms']
    return 2 * size / (1e-3 * median_ms)


def timed(run: Callable[[], object], device: str, runs: int) -> list[float]:
    """Return the milliseconds of each of `runs` runs, after WARM_UP others."""
    for _ in range(WARM_UP):
        run()
    if torch.device(device).type != 'cuda':
        return [_by_wall_clock(run) for _ in range(runs)]
    torch.cuda.synchronize()
    pairs = []
    for _ in range(runs):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run()
        end.record()
        end.synchronize()  # one frame at a time, as in the node
        pairs.append((begin, end))
    return [begin.elapsed_time(end) for begin, end in pairs]


def _by_wall_clock(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return 1e3 * (time.perf_counter() - started)
