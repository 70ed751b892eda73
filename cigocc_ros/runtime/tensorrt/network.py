"""From ONNX bytes to a TensorRT network, and from the network to a plan."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cigocc_ros.core.errors import EngineError
from cigocc_ros.core.manifest import ModelManifest
from cigocc_ros.runtime.contract import check_specs
from cigocc_ros.runtime.loading import Loading
from cigocc_ros.runtime.tensorrt.library import (
    TensorRt,
    library_log,
    network_specs,
    register_plugins,
)
from cigocc_ros.runtime.tensorrt.options import TensorRtOptions
from cigocc_ros.runtime.tensorrt.progress import BuildProgress, PhaseTracker
from cigocc_ros.runtime.tensorrt.timing_cache import TimingCache

MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class ParsedNetwork:
    """A network with the builder and the parser that it lives in."""

    builder: Any
    network: Any
    parser: Any

    @property
    def plugins(self) -> int:
        """Layers that are plugins of the library."""
        layers = (self.network.get_layer(index) for index in range(self.network.num_layers))
        return sum('PLUGIN' in layer.type.name for layer in layers)


def parse_network(
    library: TensorRt, content: bytes, manifest: ModelManifest, where: str, stock_plugins: bool
) -> ParsedNetwork:
    """Parse an ONNX file into a strongly typed network whose tensors are the manifest's.

    `stock_plugins` lets the parser take the library's plugins for functions of the file. Raises
    EngineError naming the node that the parser refuses, ManifestError for other tensors.
    """
    trt = library.module
    if not hasattr(trt, 'Builder') or not hasattr(trt, 'OnnxParser'):
        raise EngineError(f'{library} is a runtime without builder: install the full TensorRT')
    if stock_plugins:
        register_plugins(library)
    log, _ = library_log(library)
    builder = trt.Builder(log)
    network = builder.create_network(_strongly_typed(trt))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(content):
        raise EngineError(f'{where}: {library} cannot parse it: {_parser_errors(parser)}')
    inputs, outputs = network_specs(network)
    check_specs(f'{where} as {library} reads it: inputs', manifest.inputs, inputs)
    check_specs(f'{where} as {library} reads it: outputs', manifest.outputs, outputs)
    return ParsedNetwork(builder, network, parser)


def compile_network(
    library: TensorRt,
    parsed: ParsedNetwork,
    options: TensorRtOptions,
    cache: TimingCache,
    report: Callable[[BuildProgress], None],
    loading: Loading,
) -> bytes:
    """Return the plan of a network; raise LoadingCancelled or EngineError."""
    trt, (_, messages) = library.module, library_log(library)
    config = parsed.builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mb * MEBIBYTE)
    config.builder_optimization_level = options.optimization_level
    # On by default; it rounds float32 factors to 10 bits, and projections would be off by a pixel.
    config.clear_flag(trt.BuilderFlag.TF32)
    monitor = _monitor(trt, report, loading)
    config.progress_monitor = monitor
    cache.attach(config)
    plan = _in_thread(lambda: parsed.builder.build_serialized_network(parsed.network, config))
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
    texts = [f'{_node(error)}{" ".join(error.desc().split())}' for error in errors]
    return ' | '.join(texts) or 'no reason given'


def _node(error: Any) -> str:
    """Name the node of a parser error, where the release tells."""
    if not hasattr(error, 'node_name'):
        return ''
    return f'node {error.node_name()!r} ({error.node_operator()}): '


def _monitor(trt: Any, report: Callable[[BuildProgress], None], loading: Loading) -> Any:
    """Return the library's kind of listener; it stops the build once loading is cancelled."""
    tracker = PhaseTracker()

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            report(tracker.start(name, parent, steps))

        def step_complete(self, name: str, step: int) -> bool:
            report(tracker.step(name, step))
            return not loading.cancelled

        def phase_finish(self, name: str) -> None:
            report(tracker.finish(name))

    return Monitor()


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
