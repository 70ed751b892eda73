"""Which GPUs there are, and which one is meant."""

from __future__ import annotations

import ctypes
import os
import re
import uuid
from dataclasses import dataclass

from cigocc_ros.core.errors import ConfigError
from cigocc_ros.runtime.tensorrt.driver import UUID_BYTES, CudaError, Driver

_GIBIBYTE, _KIBIBYTE = 1 << 30, 1 << 10
_MULTIPROCESSORS, _L2_CACHE_BYTES, _MAJOR, _MINOR = 16, 38, 75, 76
_PCI_DOMAIN, _PCI_BUS, _PCI_DEVICE = 50, 33, 34
"""CUdevice_attribute of cuda.h."""
_NAME_BYTES = 256
_INDEX = re.compile(r'(?:cuda:)?(\d{1,3})')
_UUID = re.compile(r'(?:GPU|MIG)-[0-9a-f-]*', re.IGNORECASE)


@dataclass(frozen=True)
class Gpu:
    """What an engine depends on besides TensorRT, and which GPU it is.

    Every Jetson Orin is called "Orin" and has compute capability 8.7: its sizes tell them apart.
    """

    name: str
    compute_capability: str
    multiprocessors: int
    l2_cache_kib: int
    memory_gib: int
    """Rounded up: what a Jetson leaves of its memory changes a little with the release."""
    cuda_driver: str
    """Newest CUDA that the driver knows, e.g. 12.6."""
    uuid: str
    ordinal: int
    """How CUDA counts it in this process."""

    def __str__(self) -> str:
        """Return e.g. `Orin (8.7, 16 multiprocessors, 62 GiB)`."""
        return (
            f'{self.name} ({self.compute_capability}, {self.multiprocessors} multiprocessors, '
            f'{self.memory_gib} GiB)'
        )


def find_gpu(device: str = '') -> Gpu:
    """Return the GPU that `device` names: '', an index, `cuda:` and an index, or a UUID.

    An index counts the visible GPUs by their PCI bus ids, as nvidia-smi lists them, whatever
    CUDA_DEVICE_ORDER says. A UUID may be abbreviated. Raises CudaError where there is no GPU,
    ConfigError saying which there are where none is meant.
    """
    driver = Driver()
    count = driver.made('cuDeviceGetCount')
    if count < 1:
        raise CudaError('no GPU is visible: look at nvidia-smi and CUDA_VISIBLE_DEVICES')
    order = sorted(range(count), key=lambda ordinal: _pci_place(driver, ordinal))
    gpus = [_gpu(driver, ordinal) for ordinal in order]
    return _named(gpus, device.strip())


def _named(gpus: list[Gpu], device: str) -> Gpu:
    if not device:
        return next(gpu for gpu in gpus if gpu.ordinal == 0)
    index, meant = _INDEX.fullmatch(device), []
    if index is not None:
        meant = gpus[int(index[1]) :][:1]
    elif _UUID.fullmatch(device):
        meant = [gpu for gpu in gpus if gpu.uuid.lower().startswith(device.lower())]
    if len(meant) == 1:
        return meant[0]
    there = '; '.join(f'cuda:{number} {gpu.uuid} {gpu}' for number, gpu in enumerate(gpus))
    visible = os.environ.get('CUDA_VISIBLE_DEVICES')
    hidden = '' if visible is None else f'; CUDA_VISIBLE_DEVICES={visible} hides the others'
    raise ConfigError(
        f'device {device!r}: expected the number or the UUID of a GPU, which are: {there}{hidden}'
    )


def _pci_place(driver: Driver, ordinal: int) -> tuple[int, ...]:
    """Return what nvidia-smi sorts by; equal for the parts of one GPU, which keep their order."""
    handle = driver.made('cuDeviceGet', ordinal)
    fields = (_PCI_DOMAIN, _PCI_BUS, _PCI_DEVICE)
    return tuple(driver.made('cuDeviceGetAttribute', field, handle) for field in fields)


def _gpu(driver: Driver, ordinal: int) -> Gpu:
    handle = driver.made('cuDeviceGet', ordinal)
    name = ctypes.create_string_buffer(_NAME_BYTES)
    driver('cuDeviceGetName', name, _NAME_BYTES, handle)
    number = ctypes.create_string_buffer(UUID_BYTES)
    driver('cuDeviceGetUuid_v2', number, handle)
    text = name.value.decode(errors='replace')

    def attribute(field: int) -> int:
        return driver.made('cuDeviceGetAttribute', field, handle)

    return Gpu(
        name=text,
        compute_capability=f'{attribute(_MAJOR)}.{attribute(_MINOR)}',
        multiprocessors=attribute(_MULTIPROCESSORS),
        l2_cache_kib=attribute(_L2_CACHE_BYTES) // _KIBIBYTE,
        memory_gib=-(-driver.made('cuDeviceTotalMem_v2', handle) // _GIBIBYTE),
        cuda_driver=driver.version(),
        uuid=f'{"MIG" if " MIG " in text else "GPU"}-{uuid.UUID(bytes=number.raw)}',
        ordinal=ordinal,
    )
