"""What TensorRT measured in earlier builds: a cache that makes later ones shorter."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.files import write_atomically
from cigocc_ros.runtime.tensorrt.key import EngineKey
from cigocc_ros.runtime.tensorrt.library import TensorRt
from cigocc_ros.runtime.tensorrt.store import cache_content

logger = logging.getLogger(__name__)

SUFFIX = '.engine.timing'


class TimingCache:
    """One file per library, GPU and driver; TensorRT-RTX measures nothing and has none."""

    def __init__(self, folder: Path, library: TensorRt, key: EngineKey) -> None:
        """Take the folder of the engines."""
        self.path = folder / f'{key.place}{SUFFIX}'
        self._used = not library.is_rtx

    def attach(self, config: Any) -> None:
        """Give the builder what is known; what cannot be read or fits no more is left out."""
        if not self._used:
            return
        cache = config.create_timing_cache(cache_content(self.path))
        if not config.set_timing_cache(cache, ignore_mismatch=False):
            logger.warning(
                '%s: refused by this TensorRT, of another release or GPU, or damaged; started '
                'anew, and this build takes longer',
                self.path,
            )
            config.set_timing_cache(config.create_timing_cache(b''), ignore_mismatch=False)

    def keep(self, config: Any) -> None:
        """Write what is known now; a cache that cannot be kept costs time, not the engine."""
        cache = config.get_timing_cache() if self._used else None
        if cache is None:
            return
        try:
            write_atomically(self.path, bytes(cache.serialize()))
        except DataFileError as error:
            logger.warning('%s', error)
