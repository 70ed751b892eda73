"""Look inside an engine: its layers after fusion, their types, and how long each of them takes.

TensorRT writes this down only for engines built with detailed profiling, so one is built for it,
in memory; the timing cache of the real one makes that short.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from cigocc_ros.core.errors import EngineError
from cigocc_ros.core.files import write_atomically
from cigocc_ros.core.manifest import ModelManifest, verified_content
from cigocc_ros.core.markdown import table
from cigocc_ros.runtime.contract import Arrays, check_manifest
from cigocc_ros.runtime.loading import Loading
from cigocc_ros.runtime.predictor import blank_frame
from cigocc_ros.runtime.preprocess import Preprocessor
from cigocc_ros.runtime.self_check import load_golden
from cigocc_ros.runtime.tensorrt.cuda import Cuda, working_on
from cigocc_ros.runtime.tensorrt.gpus import find_gpu
from cigocc_ros.runtime.tensorrt.key import engine_key
from cigocc_ros.runtime.tensorrt.library import TensorRt, find_tensorrt, listening
from cigocc_ros.runtime.tensorrt.network import check_network, compile_network, parse_network
from cigocc_ros.runtime.tensorrt.options import ONNX_ROLES, TensorRtOptions, engine_folder
from cigocc_ros.runtime.tensorrt.progress import BuildProgress
from cigocc_ros.runtime.tensorrt.session import TensorRtSession
from cigocc_ros.runtime.tensorrt.timing_cache import TimingCache

RUNS = 20
SUFFIX = '.layers.json'
SLOWEST = 15
NAME_CHARACTERS = 60
TYPE_WORDS = {
    'fp8': 'fp8',
    'bf16': 'bf16',
    'bfloat16': 'bf16',
    'half': 'fp16',
    'fp16': 'fp16',
    'float16': 'fp16',
    'uint8': 'uint8',
    'int8': 'int8',
    'int32': 'int32',
    'int64': 'int64',
    'bool': 'bool',
    'fp32': 'fp32',
    'float': 'fp32',
}
"""Word of `Format/Datatype` -> type, in this order: TensorRT 10 writes `Half` or `Row major linear
FP16 format`, depending on the layer."""


@dataclass(frozen=True)
class EngineLayer:
    """A layer of a built engine, which may be many of the network."""

    name: str
    kind: str
    types: tuple[str, ...]
    """Of its outputs."""
    tactic: str
    milliseconds: float | None
    """Median of the runs, without CUDA graph; None where the library gave no time."""


@dataclass(frozen=True)
class Inspection:
    """All layers of an engine in their order, and where they ran."""

    library: str
    gpu: str
    precision: str
    runs: int
    layers: tuple[EngineLayer, ...]

    @property
    def total_ms(self) -> float:
        """Sum of all layers; a frame takes less with a CUDA graph, and more with its copies."""
        return sum(layer.milliseconds or 0.0 for layer in self.layers)

    def lines(self) -> list[str]:
        """Return tables for people: by type, and the slowest layers."""
        head = (
            f'{self.library}, {self.precision} on {self.gpu}: {len(self.layers)} layers, '
            f'{self.total_ms:.3f} ms (median of {self.runs} runs, without CUDA graph)'
        )
        slowest = sorted(self.layers, key=lambda layer: -(layer.milliseconds or 0.0))[:SLOWEST]
        return [
            head,
            '',
            *table(('type', 'layers', 'ms'), self._by_type(), left=1),
            '',
            *table(('ms', 'type', 'kind', 'slowest layers'), map(_row, slowest), left=4),
        ]

    def _by_type(self) -> Iterable[tuple[str, str, str]]:
        names = sorted({_types(layer) for layer in self.layers})
        for name in names:
            mine = [layer for layer in self.layers if _types(layer) == name]
            spent = sum(layer.milliseconds or 0.0 for layer in mine)
            yield name, str(len(mine)), f'{spent:.3f}'


def inspect_engine(
    model_dir: Path,
    manifest: ModelManifest,
    options: TensorRtOptions,
    report: Callable[[BuildProgress], None],
    loading: Loading,
    device: str = '',
) -> tuple[Inspection, Path]:
    """Build with detailed profiling, run with a profiler; return what was found and its file.

    `report`, `loading` and `device` are as for `build_engine`. The file lies beside the engine.
    Raises what `build_engine` raises, and EngineError without a GPU.
    """
    check_manifest(manifest)
    library, gpu = find_tensorrt(), find_gpu(device)
    key = engine_key(model_dir, manifest, options, library, gpu)
    folder, role = engine_folder(options, model_dir), ONNX_ROLES[key.precision]
    where = str(model_dir / manifest.file(role).path)
    content = verified_content(model_dir, manifest, role)
    cache = TimingCache(folder, library, key)
    with working_on(gpu):
        parsed = parse_network(library, content, where, key.stock_plugins)
        check_network(library, parsed, manifest, where)
        plan = compile_network(
            library, parsed, options, cache, report, loading, gpu, detailed=True
        )
        del parsed
    with closing(TensorRtSession(library, Cuda(gpu), plan, manifest, False)) as session:
        times = _layer_times(library, session, _inputs(model_dir, manifest))
        layers = tuple(read_layers(session.layer_information(), times))
    found = Inspection(str(library), gpu.name, key.precision, RUNS, layers)
    path = folder / f'{key.name}{SUFFIX}'
    write_atomically(path, json.dumps(asdict(found), indent=1) + '\n')
    return found, path


def read_layers(information: str, times: dict[str, float]) -> Iterable[EngineLayer]:
    """Yield the layers of the inspector's JSON; raise EngineError where it says only names."""
    try:
        layers = json.loads(information)['Layers']
        described = [_layer(layer, times) for layer in layers]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EngineError(
            f'the engine inspector gave no details of layers ({error!r}): {information[:80]!r}'
        ) from error
    yield from described


def _layer(layer: dict[str, Any], times: dict[str, float]) -> EngineLayer:
    formats = [str(output.get('Format/Datatype', '')) for output in layer.get('Outputs', [])]
    name = str(layer['Name'])
    tactic = layer.get('TacticName') or layer.get('TacticValue') or ''
    return EngineLayer(
        name=name,
        kind=str(layer.get('LayerType', '')),
        types=tuple(dict.fromkeys(map(_type, formats))),
        tactic=str(tactic),
        milliseconds=times.get(name),
    )


def _type(text: str) -> str:
    words = text.lower()
    return next((kind for word, kind in TYPE_WORDS.items() if word in words), text or 'unknown')


def _types(layer: EngineLayer) -> str:
    return ', '.join(layer.types) or 'no output'


def _row(layer: EngineLayer) -> tuple[str, str, str, str]:
    spent = '' if layer.milliseconds is None else f'{layer.milliseconds:.3f}'
    return spent, _types(layer), layer.kind, layer.name[:NAME_CHARACTERS]


def _inputs(model_dir: Path, manifest: ModelManifest) -> Arrays:
    golden = load_golden(model_dir, manifest)
    if golden is not None:
        return golden.inputs
    return Preprocessor(manifest.image_size)(blank_frame(manifest.image_size))


def _layer_times(library: TensorRt, session: TensorRtSession, arrays: Arrays) -> dict[str, float]:
    """Return the median of each layer's time over the runs, milliseconds."""
    stopwatch = listening(_Stopwatch, library.module.IProfiler)()
    session.attach_profiler(stopwatch)
    for _ in range(RUNS):
        stopwatch.runs.append({})
        session.run(arrays)
    names = {name for run in stopwatch.runs for name in run}
    return {name: median(run.get(name, 0.0) for run in stopwatch.runs) for name in names}


class _Stopwatch:
    """The library's IProfiler, called for each layer within every run."""

    def __init__(self) -> None:
        super().__init__()  # the library's own, which it wants called
        self.runs: list[dict[str, float]] = []

    def report_layer_time(self, layer_name: str, ms: float) -> None:
        run = self.runs[-1]
        run[layer_name] = run.get(layer_name, 0.0) + ms
