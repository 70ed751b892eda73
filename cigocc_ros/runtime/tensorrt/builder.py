"""Compile a model's ONNX file with TensorRT; needs neither torch nor onnx.

One builder at a time: a lock that the kernel takes back when its holder dies.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from cigocc_ros import __version__
from cigocc_ros.core.errors import EngineError, ManifestError
from cigocc_ros.core.manifest import ModelManifest, verified_content
from cigocc_ros.runtime.contract import check_manifest
from cigocc_ros.runtime.loading import Loading
from cigocc_ros.runtime.tensorrt.cuda import working_on
from cigocc_ros.runtime.tensorrt.gpus import Gpu, find_gpu
from cigocc_ros.runtime.tensorrt.key import EngineKey, engine_key
from cigocc_ros.runtime.tensorrt.library import TensorRt, find_tensorrt
from cigocc_ros.runtime.tensorrt.network import (
    check_network,
    compile_network,
    parse_network,
    plugin_loss,
)
from cigocc_ros.runtime.tensorrt.options import (
    ONNX_ROLES,
    TensorRtOptions,
    build_command,
    engine_folder,
)
from cigocc_ros.runtime.tensorrt.progress import BuildProgress
from cigocc_ros.runtime.tensorrt.session import check_engine_tensors, deserialise
from cigocc_ros.runtime.tensorrt.store import (
    SIDECAR_VERSION,
    EngineMissingError,
    EngineSidecar,
    EngineStore,
)
from cigocc_ros.runtime.tensorrt.timing_cache import TimingCache

POLL_S = 0.2


@contextmanager
def file_lock(path: Path, wait: Callable[[str], None]) -> Iterator[None]:
    """Hold `path` locked, as long as it takes; the file stays, for removing it would race.

    `wait(holder)` is called every now and then while another process holds it: it sleeps about
    POLL_S, or raises to give up. Raises EngineError where the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise EngineError(
            f'{path}: cannot be written: {error.strerror}; name a folder that can with '
            '--engine-dir FOLDER (node: tensorrt.engine_dir)'
        ) from error
    try:
        while not _taken(descriptor):
            wait(os.pread(descriptor, 32, 0).decode(errors='replace').strip() or 'unknown')
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f'{os.getpid()}\n'.encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


logger = logging.getLogger(__name__)

LOCK_SUFFIX = '.engine.lock'
Report = Callable[[BuildProgress], None]


@dataclass(frozen=True)
class BuildResult:
    """Where the engine lies, and whether it had to be built."""

    path: Path
    sidecar: EngineSidecar
    built: bool


def build_engine(
    model_dir: Path,
    manifest: ModelManifest,
    options: TensorRtOptions,
    report: Report,
    loading: Loading,
    force: bool = False,
    device: str = '',
) -> BuildResult:
    """Build the engine that this machine needs, unless it is there; `force` builds it anyway.

    `report` is called from threads of TensorRT; `loading` cancels; `device` is as for `find_gpu`.
    Another builder of the same engine is waited for. Raises EngineError, ManifestError, or
    LoadingCancelled, and leaves what was there before then.
    """
    check_manifest(manifest)
    library = find_tensorrt()
    gpu = _gpu(library, device)
    key = engine_key(model_dir, manifest, options, library, gpu)
    command = build_command(options, model_dir, device)
    store = EngineStore(engine_folder(options, model_dir), command)
    started_s = time.monotonic()

    def wait(holder: str) -> None:
        waited_s = time.monotonic() - started_s
        report(BuildProgress(f'waiting for another builder, process {holder}', 0.0, waited_s))
        loading.wait_cancelled(POLL_S)
        loading.check()

    with file_lock(store.folder / f'{key.name}{LOCK_SUFFIX}', wait):
        store.require_private()
        ready = None if force else _ready(store, key, manifest)
        if ready is not None:
            return BuildResult(store.engine_path(key), ready, built=False)
        cache = TimingCache(store.folder, library, key)
        with working_on(gpu):
            job = _Job(library, key, manifest, options, gpu)
            sidecar, plan = job.run(model_dir, cache, report, loading)
        return BuildResult(store.save(sidecar, plan), sidecar, built=True)


@dataclass(frozen=True)
class _Job:
    library: TensorRt
    key: EngineKey
    manifest: ModelManifest
    options: TensorRtOptions
    gpu: Gpu | None

    def run(
        self, model_dir: Path, cache: TimingCache, report: Report, loading: Loading
    ) -> tuple[EngineSidecar, bytes]:
        """Parse, compile, load once; return the description and the plan."""
        started_s = time.monotonic()
        role = ONNX_ROLES[self.key.precision]
        path = model_dir / self.manifest.file(role).path
        content = verified_content(model_dir, self.manifest, role)
        if hashlib.sha256(content).hexdigest() != self.key.onnx_sha256:
            raise ManifestError(f'{path}: changed while it was read; try again')
        parsed = parse_network(self.library, content, str(path), self.key.stock_plugins)
        check_network(self.library, parsed, self.manifest, str(path))
        loss = plugin_loss(str(self.library), parsed.plugins, parsed.samplings)
        if self.key.stock_plugins and loss:
            logger.warning('%s: %s', path, loss)
        loading.check()
        plan = compile_network(
            self.library, parsed, self.options, cache, report, loading, self.gpu
        )
        layers = self._checked_layers(plan, parsed.network.num_layers)
        seconds = time.monotonic() - started_s
        logger.info('%s: built in %.0f s, %.1f MB', path, seconds, len(plan) / 1e6)
        counts = layers, parsed.plugins, parsed.samplings
        return self._sidecar(plan, counts, seconds), plan

    def _checked_layers(self, plan: bytes, parsed_layers: int) -> int:
        """Load the plan where there is a GPU, check its tensors; return how many layers it has."""
        if self.gpu is None:
            logger.warning('no GPU here: the engine is checked when it is loaded on one')
            return parsed_layers
        engine: Any = deserialise(self.library, plan)
        check_engine_tensors(self.library, engine, self.manifest)
        return int(engine.num_layers)

    def _sidecar(self, plan: bytes, counts: tuple[int, int, int], build_s: float) -> EngineSidecar:
        layers, plugins, samplings = counts
        return EngineSidecar(
            sidecar_version=SIDECAR_VERSION,
            key=self.key,
            engine_sha256=hashlib.sha256(plan).hexdigest(),
            engine_bytes=len(plan),
            model_id=self.manifest.model_id,
            inputs=self.manifest.inputs,
            outputs=self.manifest.outputs,
            layers=layers,
            plugins=plugins,
            samplings=samplings,
            build_s=round(build_s, 1),
            deserialised=self.gpu is not None,
            built_by=f'cigocc {__version__}',
            built_at=datetime.now(timezone.utc).isoformat(timespec='seconds'),
        )


def _gpu(library: TensorRt, device: str) -> Gpu | None:
    """Return the GPU; TensorRT-RTX alone can build without one."""
    try:
        return find_gpu(device)
    except EngineError as error:
        if library.is_rtx:
            logger.info('building without a GPU: %s', error)
            return None
        raise EngineError(
            f'{library} builds only on the GPU that runs the engine: {error}; run this on the '
            'vehicle, or use backend onnxruntime here'
        ) from error


def _ready(store: EngineStore, key: EngineKey, manifest: ModelManifest) -> EngineSidecar | None:
    """Return the description of an engine that can be loaded as it is."""
    try:
        sidecar = store.find(key, manifest)
        store.load(key, manifest)
    except EngineMissingError as error:
        logger.info('%s', error)
        return None
    return sidecar
