"""What the user decides about a TensorRT engine; the one owner of these defaults."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from cigocc_ros.core.errors import ConfigError, ManifestError
from cigocc_ros.core.manifest import MIXED_ROLE, ModelManifest
from cigocc_ros.runtime.contract import ONNX_ROLE

AUTO_PRECISION = 'auto'
ONNX_ROLES = {'mixed_fp16': MIXED_ROLE, 'fp32': ONNX_ROLE}
"""Precision -> role in the manifest, best first: the types are in the file, not in flags."""
PRECISIONS = (AUTO_PRECISION, *ONNX_ROLES)
WORKSPACE_LIMITS_MB = (64, 65_536)
OPTIMIZATION_LEVELS = (0, 5)
DEADLINE_LIMITS_S = (0.01, 60.0)


@dataclass(frozen=True)
class TensorRtOptions:
    """Where engines lie, how they are built and run."""

    engine_dir: str = ''
    """Folder of the engines; empty means the model's own folder."""
    precision: str = AUTO_PRECISION
    """Which file of the model is compiled; auto takes the mixed one where there is one."""
    workspace_mb: int = 2048
    """Most scratch memory of a layer. A Jetson shares it with everything else, and running out of
    memory while tactics are timed is how builds usually fail."""
    optimization_level: int = 3
    """TensorRT's own scale, 0 (fast build) to 5 (tries everything)."""
    stock_plugins: bool = True
    """Whether deformable attention may be TensorRT's own plugin instead of plain operators."""
    build_missing: bool = True
    """Whether a missing or stale engine is built instead of refused."""
    cuda_graph: bool = True
    """Whether a frame is one graph launch instead of hundreds of kernel launches."""
    deadline_s: float = 1.0
    """How long a frame may take on the GPU before its context is given up."""

    def __post_init__(self) -> None:
        """Raise ConfigError for values out of range."""
        if self.precision not in PRECISIONS:
            raise ConfigError(f'precision: expected one of {PRECISIONS}, found {self.precision!r}')
        self._require('workspace_mb', WORKSPACE_LIMITS_MB)
        self._require('optimization_level', OPTIMIZATION_LEVELS)
        self._require('deadline_s', DEADLINE_LIMITS_S)

    def _require(self, name: str, limits: tuple[float, float]) -> None:
        value = getattr(self, name)
        if not limits[0] <= value <= limits[1]:
            raise ConfigError(f'{name}: expected {limits[0]} to {limits[1]}, found {value}')


def choose_precision(options: TensorRtOptions, manifest: ModelManifest) -> str:
    """Return the precision to compile; raise ManifestError where the model has no such file."""
    if options.precision == AUTO_PRECISION:
        return next(name for name, role in ONNX_ROLES.items() if role in manifest.files)
    role = ONNX_ROLES[options.precision]
    if role not in manifest.files:
        raise ManifestError(
            f'precision {options.precision}: model {manifest.model_id} has no {role!r} file, only '
            f'{list(manifest.files)}: run `cigocc export` again, or ask for another precision'
        )
    return options.precision


def engine_folder(options: TensorRtOptions, model_dir: Path) -> Path:
    """Return where the engines of a model lie."""
    return Path(options.engine_dir).expanduser() if options.engine_dir else model_dir


def build_arguments(options: TensorRtOptions, model_dir: Path) -> list[str]:
    """Return the words of the command that builds the engine these options ask for."""
    default = TensorRtOptions()
    words = ['build-engine', '--model', str(model_dir)]
    for name in ('engine_dir', 'precision', 'workspace_mb', 'optimization_level'):
        value = getattr(options, name)
        if value != getattr(default, name):
            words += [f'--{name.replace("_", "-")}', str(value)]
    return words if options.stock_plugins else [*words, '--no-stock-plugins']


def build_command(options: TensorRtOptions, model_dir: Path) -> str:
    """Return that command as one line for people."""
    return shlex.join(['cigocc', *build_arguments(options, model_dir)])
