"""From a model folder to a running TensorRT engine: find it, build it if need be, load it."""

from __future__ import annotations

import logging
from pathlib import Path

from cigocc_ros.core.errors import EngineError
from cigocc_ros.core.manifest import ModelManifest
from cigocc_ros.runtime.contract import check_manifest
from cigocc_ros.runtime.loading import Loading
from cigocc_ros.runtime.tensorrt.builder_process import build_in_process
from cigocc_ros.runtime.tensorrt.cuda import Cuda
from cigocc_ros.runtime.tensorrt.engine import TensorRtEngine
from cigocc_ros.runtime.tensorrt.gpus import find_gpu
from cigocc_ros.runtime.tensorrt.kernel_cache import kernel_cache
from cigocc_ros.runtime.tensorrt.key import engine_key
from cigocc_ros.runtime.tensorrt.library import find_tensorrt
from cigocc_ros.runtime.tensorrt.network import plugin_loss
from cigocc_ros.runtime.tensorrt.options import TensorRtOptions, build_command, engine_folder
from cigocc_ros.runtime.tensorrt.session import TensorRtSession
from cigocc_ros.runtime.tensorrt.store import EngineMissingError, EngineStore

logger = logging.getLogger(__name__)


def why_not_tensorrt(device: str = '') -> str:
    """Return why TensorRT cannot run here; empty where library, driver and GPU are there.

    `device` is as for `find_gpu`; raises ConfigError where it is none.
    """
    try:
        find_tensorrt()
        find_gpu(device)
    except EngineError as error:
        return str(error)
    return ''


def open_tensorrt(
    model_dir: Path,
    manifest: ModelManifest,
    options: TensorRtOptions,
    loading: Loading,
    device: str = '',
) -> TensorRtEngine:
    """Return the engine of a model, built first where it is missing or stale and may be.

    `device` is as for `find_gpu`.

    Raises EngineError or ManifestError saying what was found, what was expected and the command
    that mends it; LoadingCancelled.
    """
    check_manifest(manifest)
    library, gpu = find_tensorrt(), find_gpu(device)
    key = engine_key(model_dir, manifest, options, library, gpu)
    command = build_command(options, model_dir, device)
    store = EngineStore(engine_folder(options, model_dir), command)
    try:
        sidecar = store.find(key, manifest)
    except EngineMissingError as error:
        if not options.build_missing:
            raise
        logger.warning('%s; doing that now, it takes minutes', error)
        build_in_process(model_dir, options, loading, device)
        sidecar = store.find(key, manifest)
    loss = plugin_loss(str(library), sidecar.plugins, sidecar.samplings)
    if key.stock_plugins and loss:
        logger.warning('%s', loss)

    def session() -> TensorRtSession:
        # Read again for a new context: hundreds of megabytes are not kept for the rare case.
        plan = store.load(key, manifest)
        kernels = kernel_cache(store, key, gpu) if library.is_rtx else None
        return TensorRtSession(library, Cuda(gpu), plan, manifest, options.cuda_graph, kernels)

    loading.tell('loading the TensorRT engine')
    engine = TensorRtEngine(
        session, manifest, f'{library} {key.precision} on {gpu.name}', options.deadline_s
    )
    loading.tell('')
    return engine
