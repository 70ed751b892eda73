"""What an engine was made of: where any of it differs, the engine is stale."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from cigocc_ros.core.manifest import ModelManifest, verified_file
from cigocc_ros.runtime.tensorrt.gpus import Gpu
from cigocc_ros.runtime.tensorrt.library import TensorRt
from cigocc_ros.runtime.tensorrt.options import ONNX_ROLES, TensorRtOptions, choose_precision

RECIPE = 2
"""Raised whenever the builder's fixed choices change, so that older engines count as stale."""
ANY = 'any'
ANY_GPU = Gpu(ANY, ANY, 0, 0, 0, ANY, ANY, 0)
KEY_CHARACTERS = 16
NO_COMPATIBILITY = 'none'


@dataclass(frozen=True)
class EngineKey:
    """Everything an engine depends on.

    TensorRT-RTX makes engines for any GPU and driver; these fields say `any`, or 0, then. The
    sizes are there because every Jetson Orin has the same name and compute capability.
    """

    onnx_sha256: str
    library: str
    library_version: str
    gpu: str
    compute_capability: str
    multiprocessors: int
    l2_cache_kib: int
    memory_gib: int
    cuda_driver: str
    precision: str
    workspace_mb: int
    optimization_level: int
    stock_plugins: bool
    hardware_compatibility: str = NO_COMPATIBILITY
    recipe: int = RECIPE

    @property
    def name(self) -> str:
        """Name of the engine's files, without suffix."""
        content = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:KEY_CHARACTERS]

    @property
    def place(self) -> str:
        """Name of what may be shared by engines of one library on one GPU."""
        fields = (self.library, self.library_version, self.gpu, self.cuda_driver)
        sizes = (self.multiprocessors, self.l2_cache_kib, self.memory_gib)
        text = '\n'.join([*fields, *map(str, sizes)])
        return hashlib.sha256(text.encode()).hexdigest()[:KEY_CHARACTERS]

    def differences(self, found: EngineKey) -> list[str]:
        """Say for each differing field what was found and what is expected."""
        mine, other = asdict(self), asdict(found)
        return [
            f'{name.replace("_", " ")}: found {other[name]}, expected {mine[name]}'
            for name in mine
            if mine[name] != other[name]
        ]


def engine_key(
    model_dir: Path,
    manifest: ModelManifest,
    options: TensorRtOptions,
    library: TensorRt,
    gpu: Gpu | None,
) -> EngineKey:
    """Return the key of the engine that this machine needs; the ONNX file is verified for it.

    `gpu` may be None for TensorRT-RTX, which builds without one. Raises ManifestError.
    """
    precision = choose_precision(options, manifest)
    verified_file(model_dir, manifest, ONNX_ROLES[precision])
    where = ANY_GPU if library.is_rtx or gpu is None else gpu
    return EngineKey(
        onnx_sha256=manifest.file(ONNX_ROLES[precision]).sha256,
        library=library.name,
        library_version=library.version,
        gpu=where.name,
        compute_capability=where.compute_capability,
        multiprocessors=where.multiprocessors,
        l2_cache_kib=where.l2_cache_kib,
        memory_gib=where.memory_gib,
        cuda_driver=where.cuda_driver,
        precision=precision,
        workspace_mb=options.workspace_mb,
        optimization_level=options.optimization_level,
        stock_plugins=options.stock_plugins and not library.is_rtx,
    )
