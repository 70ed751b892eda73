"""From ONNX bytes to a TensorRT network, and from the network to a plan."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cigocc_ros.core.errors import EngineError
from cigocc_ros.core.manifest import ModelManifest
from cigocc_ros.core.onnx_file import SAMPLE_OP, count_calls, renamed_operator, without_function
from cigocc_ros.runtime.contract import check_specs
from cigocc_ros.runtime.loading import Loading
from cigocc_ros.runtime.tensorrt.cuda import working_on
from cigocc_ros.runtime.tensorrt.gpus import Gpu
from cigocc_ros.runtime.tensorrt.library import (
    TensorRt,
    has_plugin,
    library_log,
    listening,
    network_specs,
    register_plugins,
)
from cigocc_ros.runtime.tensorrt.options import TensorRtOptions
from cigocc_ros.runtime.tensorrt.progress import BuildProgress, PhaseTracker
from cigocc_ros.runtime.tensorrt.timing_cache import TimingCache

logger = logging.getLogger(__name__)

MEBIBYTE = 1 << 20
PLAIN_OP = 'MultiscaleDeformableAttnInONNX_TRT'
"""A name without plugin, as long as the other."""


@dataclass(frozen=True)
class ParsedNetwork:
    """A network with the builder and the parser that it lives in."""

    builder: Any
    network: Any
    parser: Any
    samplings: int
    """Calls of deformable sampling in the file."""

    @property
    def plugins(self) -> int:
        """Layers that are plugins of the library."""
        layers = (self.network.get_layer(index) for index in range(self.network.num_layers))
        return sum('PLUGIN' in layer.type.name for layer in layers)


def parse_network(
    library: TensorRt, content: bytes, where: str, stock_plugins: bool
) -> ParsedNetwork:
    """Parse an ONNX file into a strongly typed network.

    With `stock_plugins` deformable sampling becomes the library's own plugin where it has one.
    Which of a plugin and a local function of its name a parser takes differs by release: before
    10.7 and from 10.15 on the function, in between the plugin (`ModelImporter.cpp::parseNode` of
    onnx-tensorrt). So the function is cut out where the plugin is wanted, and has another name
    where it is not: no parser is left a choice. Never by the flag ENABLE_PLUGIN_OVERRIDE: under it
    the stock plugin `ScatterND` would replace an operator.

    Raises EngineError naming the node that the parser refuses.
    """
    if stock_plugins:
        register_plugins(library)
    samplings = count_calls(content, SAMPLE_OP, where)
    if not samplings or not has_plugin(library, SAMPLE_OP):
        return _parsed(library, content, where, samplings)
    if stock_plugins:
        try:
            stripped = without_function(content, SAMPLE_OP, where)
            return _parsed(library, stripped, where, samplings)
        except EngineError as error:
            library_log(library)[1].take()  # these errors are told here
            logger.warning('%s; parsed again with plain operators in its place', error)
    plain = renamed_operator(content, SAMPLE_OP, PLAIN_OP)
    return _parsed(library, plain, where, samplings)


def plugin_loss(library: str, plugins: int, samplings: int) -> str:
    """Say what is lost where fewer samplings than expected became plugins; empty if none is."""
    if plugins >= samplings:
        return ''
    return (
        f'{library} took {plugins} of {samplings} deformable samplings as its plugin {SAMPLE_OP}; '
        'the others are plain operators, which move 1.5 (mid) to 2.3 times (full) as much memory '
        'per frame: expect slower frames'
    )


def check_network(
    library: TensorRt, parsed: ParsedNetwork, manifest: ModelManifest, where: str
) -> None:
    """Raise ManifestError where the parsed tensors are not those of the manifest."""
    inputs, outputs = network_specs(parsed.network)
    check_specs(f'{where} as {library} reads it: inputs', manifest.inputs, inputs)
    check_specs(f'{where} as {library} reads it: outputs', manifest.outputs, outputs)


def _parsed(library: TensorRt, content: bytes, where: str, samplings: int) -> ParsedNetwork:
    trt = library.module
    if not hasattr(trt, 'Builder') or not hasattr(trt, 'OnnxParser'):
        raise EngineError(f'{library} is a runtime without builder: install the full TensorRT')
    log, _ = library_log(library)
    builder = trt.Builder(log)
    network = builder.create_network(_strongly_typed(trt))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(content):
        raise EngineError(f'{where}: {library} cannot parse it: {_parser_errors(parser)}')
    return ParsedNetwork(builder, network, parser, samplings)


def compile_network(
    library: TensorRt,
    parsed: ParsedNetwork,
    options: TensorRtOptions,
    cache: TimingCache,
    report: Callable[[BuildProgress], None],
    loading: Loading,
    gpu: Gpu | None,
    detailed: bool = False,
) -> bytes:
    """Return the plan of a network for a GPU; raise LoadingCancelled or EngineError.

    `gpu` must be current here, too; it may be None for TensorRT-RTX. A `detailed` plan can say
    what its layers are.
    """

    def compiled() -> Any:
        with working_on(gpu):
            return parsed.builder.build_serialized_network(parsed.network, config)

    trt, (_, messages) = library.module, library_log(library)
    config = parsed.builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mb * MEBIBYTE)
    config.builder_optimization_level = options.optimization_level
    # On by default; it rounds float32 factors to 10 bits, and projections would be off by a pixel.
    config.clear_flag(trt.BuilderFlag.TF32)
    if detailed:
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    monitor = listening(_Monitor, trt.IProgressMonitor)(report, loading)
    config.progress_monitor = monitor
    cache.attach(config)
    plan = _in_thread(compiled)
    loading.check()
    if plan is None:
        raise EngineError(f'{library} cannot build the engine: {messages.take()}')
    cache.keep(config)
    return bytes(plan)


def _strongly_typed(trt: Any) -> int:
    """Return the flags of a network whose types are those of the file; 11.x knows no other."""
    flags = trt.NetworkDefinitionCreationFlag
    if hasattr(flags, 'STRONGLY_TYPED'):
        return int(1 << int(flags.STRONGLY_TYPED))
    return 0


def _parser_errors(parser: Any) -> str:
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    texts = [f'{_named(error)}{" ".join(error.desc().split())}' for error in errors]
    return ' | '.join(texts) or 'no reason given'


def _named(error: Any) -> str:
    """Name the node of a parser error, where the release tells."""
    if not hasattr(error, 'node_name'):
        return ''
    return f'node {error.node_name()!r} ({error.node_operator()}): '


class _Monitor:
    """The library's IProgressMonitor; it stops the build once loading is cancelled."""

    def __init__(self, report: Callable[[BuildProgress], None], loading: Loading) -> None:
        super().__init__()  # the library's own, which it wants called
        self._tracker, self._report, self._loading = PhaseTracker(), report, loading

    def phase_start(self, name: str, parent: str | None, steps: int) -> None:
        self._report(self._tracker.start(name, parent, steps))

    def step_complete(self, name: str, step: int) -> bool:
        self._report(self._tracker.step(name, step))
        return not self._loading.cancelled

    def phase_finish(self, name: str) -> None:
        self._report(self._tracker.finish(name))


def _in_thread(function: Callable[[], Any]) -> Any:
    """Call it in a thread, so that signals reach Python while TensorRT works for minutes."""
    answers: list[Any] = []
    problems: list[BaseException] = []

    def work() -> None:
        try:
            answers.append(function())
        except BaseException as error:
            problems.append(error)

    thread = threading.Thread(target=work, name='builder')
    thread.start()
    while thread.is_alive():
        thread.join(0.1)
    if problems:
        raise problems[0]
    return answers[0]
