"""What TensorRT-RTX compiled for this GPU: kept, so that later starts take a second."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.files import write_atomically
from cigocc_ros.runtime.tensorrt.gpus import Gpu
from cigocc_ros.runtime.tensorrt.key import EngineKey
from cigocc_ros.runtime.tensorrt.store import EngineStore, cache_content

logger = logging.getLogger(__name__)

SUFFIX = '.engine.kernels'


class KernelCache:
    """A file for one engine on one kind of GPU; without it, or with a wrong one, it is compiled.

    TensorRT-RTX takes no kernels of another GPU, whatever its compute capability. Kernels are
    native code: the file must be as private as the engine.
    """

    def __init__(self, path: Path) -> None:
        """Take the path, which need not exist."""
        self.path = path
        self._cache: Any = None
        self._known = b''

    def context(self, engine: Any) -> Any:
        """Return an execution context that uses the cache; None where the library makes none."""
        config = engine.create_runtime_config()
        self._cache = config.create_runtime_cache()
        self._known = cache_content(self.path)
        if self._known and not self._cache.deserialize(self._known):
            logger.warning(
                '%s: refused by this TensorRT-RTX, of another release or driver, or damaged; '
                'compiled anew, and this start takes longer',
                self.path,
            )
            self._known = b''
        config.set_runtime_cache(self._cache)
        return engine.create_execution_context(runtime_config=config)

    def keep(self) -> None:
        """Write what was compiled since; where that fails the next start takes longer."""
        content = bytes(self._cache.serialize())
        if content != self._known:
            try:
                write_atomically(self.path, content)
            except DataFileError as error:
                logger.warning('%s', error)


def kernel_cache(store: EngineStore, key: EngineKey, gpu: Gpu) -> KernelCache:
    """Return the cache of what TensorRT-RTX compiles of an engine for this GPU and driver."""
    words = re.sub(r'[^a-z0-9]+', '-', gpu.name.lower()).strip('-')
    kind = f'{words}-{gpu.compute_capability}-{gpu.multiprocessors}'
    return KernelCache(store.folder / f'{key.name}-{kind}-{gpu.cuda_driver}{SUFFIX}')
