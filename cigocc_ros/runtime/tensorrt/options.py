"""What the user decides about a TensorRT engine; the one owner of these options."""

from __future__ import annotations

import dataclasses
import shlex
from dataclasses import dataclass
from pathlib import Path

from cigocc_ros.core.errors import ManifestError
from cigocc_ros.core.manifest import MIXED_ROLE, ModelManifest
from cigocc_ros.core.options import OptionField, check_options, option, option_words
from cigocc_ros.runtime.contract import ONNX_ROLE

AUTO_PRECISION = 'auto'
ONNX_ROLES = {'mixed_fp16': MIXED_ROLE, 'fp32': ONNX_ROLE}
"""Precision -> role in the manifest, best first: the types are in the file, not in flags."""
PRECISIONS = (AUTO_PRECISION, *ONNX_ROLES)


@dataclass(frozen=True)
class TensorRtOptions:
    """Where engines lie, how they are built and run.

    Parameters `tensorrt.*` of the node; those with `builds` are arguments of `build-engine` too.
    Raises ConfigError for values out of range.
    """

    engine_dir: str = option(
        '', "Folder of the TensorRT engines; empty takes the model's own folder", builds=True
    )
    build_missing: bool = option(
        True,
        'Whether a missing or stale TensorRT engine is built at start, which takes minutes; else '
        'the node ends with the command that builds it',
    )
    precision: str = option(
        AUTO_PRECISION,
        'Which file of the model TensorRT compiles; auto takes the mixed fp16 one where there is '
        'one',
        choices=PRECISIONS,
        builds=True,
    )
    # A Jetson shares it with everything else; running out of memory while tactics are timed is
    # how builds usually fail.
    workspace_mb: int = option(
        2048,
        'Most scratch memory of a layer of a TensorRT engine that is built, MiB',
        limits=(64, 65_536),
        builds=True,
    )
    optimization_level: int = option(
        3,
        'How much TensorRT tries while it builds, from fast builds to fast engines',
        limits=(0, 5),
        builds=True,
    )
    stock_plugins: bool = option(
        True,
        "Whether deformable attention may be TensorRT's own plugin where it has one, instead of "
        'plain operators',
        builds=True,
    )
    cuda_graph: bool = option(True, 'Whether TensorRT runs a frame as one CUDA graph')
    deadline_s: float = option(
        1.0,
        'How long TensorRT may take for a frame, seconds; a late frame is lost, and so are those '
        'that come before it is back',
        limits=(0.01, 60.0),
    )

    def __post_init__(self) -> None:
        """Raise ConfigError for values out of range."""
        check_options(self)


def build_options() -> tuple[OptionField, ...]:
    """Return the options that say where an engine is built and what it becomes."""
    fields = dataclasses.fields(TensorRtOptions)
    return tuple(field for field in fields if field.metadata.get('builds'))


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


def build_arguments(options: TensorRtOptions, model_dir: Path, device: str = '') -> list[str]:
    """Return the words of the command that builds the engine these options ask for."""
    words = ['build-engine', '--model', str(model_dir)]
    words += ['--device', device] if device else []
    return [*words, *option_words(options, build_options())]


def build_command(options: TensorRtOptions, model_dir: Path, device: str = '') -> str:
    """Return that command as one line for people."""
    return shlex.join(['cigocc', *build_arguments(options, model_dir, device)])
