"""Parse and build ONNX files with TensorRT, and refuse what would go wrong on a vehicle.

    python -m cigocc_ros.runtime.tensorrt.parser_gate models/mine   # both files of the folder
    python -m cigocc_ros.runtime.tensorrt.parser_gate network.onnx --json

Runs with `tensorrt` or `tensorrt_rtx` (`make rtx`; no GPU needed), numpy and yaml; without torch.
Exit status 1 where a file fails.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cigocc_ros.core.errors import CigoccError
from cigocc_ros.core.manifest import MIXED_ROLE, TensorSpec, load_manifest, verified_file
from cigocc_ros.runtime.tensorrt.library import (
    find_tensorrt,
    library_log,
    network_specs,
    register_plugins,
)
from cigocc_ros.runtime.tensorrt.parser_rules import (
    layer_problems,
    precision_problems,
    read_network,
)

ONNX_ROLES = ('onnx', MIXED_ROLE)


@dataclass(frozen=True)
class Expectation:
    """What the manifest says about a file; None where there is no manifest."""

    precision: str | None = None
    inputs: tuple[TensorSpec, ...] | None = None
    outputs: tuple[TensorSpec, ...] | None = None


@dataclass(frozen=True)
class GateReport:
    """What one version of the library made of one file; no problems means it may be deployed."""

    file: str
    library: str
    problems: tuple[str, ...]
    layers: int = 0
    half_layers: int = 0
    learned_layers: int = 0
    samplers: int = 0
    plugins: int = 0
    parse_s: float = 0.0
    build_s: float = 0.0
    engine_bytes: int = 0
    peak_rss_mb: float = 0.0

    def __str__(self) -> str:
        """Return one line, and one more for each problem."""
        state = 'FAILED' if self.problems else 'ok'
        line = (
            f'{state}  {self.library}  {self.file}: {self.layers} layers, {self.half_layers} of '
            f'{self.learned_layers} with weights in float16, {self.samplers} samplers, '
            f'{self.plugins} plugins, parse {self.parse_s:.2f} s, build {self.build_s:.1f} s, '
            f'engine {self.engine_bytes / 1e6:.1f} MB, peak memory {self.peak_rss_mb:.0f} MB'
        )
        return '\n  '.join([line, *self.problems])


def check_file(path: Path, expected: Expectation, build: bool = True) -> GateReport:
    """Parse, walk and, where nothing is wrong so far, build one ONNX file."""
    trt = find_tensorrt()
    library = trt.module
    logger, messages = library_log(trt)
    messages.take()
    register_plugins(trt)
    builder = library.Builder(logger)
    network = builder.create_network(_strongly_typed(library))
    parser = library.OnnxParser(network, logger)
    start = time.monotonic()
    if not parser.parse_from_file(str(path)):
        errors = [parser.get_error(i) for i in range(parser.num_errors)]
        problems = [f'{_node(error)}refused by the parser: {error.desc()}' for error in errors]
        return GateReport(str(path), str(trt), tuple(problems))
    parse_s = time.monotonic() - start
    parsed = read_network(library, network)
    problems = layer_problems(parsed) + _contract_problems(network, expected)
    if expected.precision is not None:
        problems += precision_problems(parsed, expected.precision)
    build_s, size = 0.0, 0
    if build and not problems:
        build_s, size = _build(library, builder, network)
        problems += [] if size else [f'refused by the builder: {messages.take()}']
    kinds, types = parsed.kinds(), parsed.learned_types()
    return GateReport(
        file=str(path),
        library=str(trt),
        problems=tuple(problems),
        layers=len(parsed.layers),
        half_layers=types['HALF'],
        learned_layers=types.total(),
        samplers=kinds['GRID_SAMPLE'],
        plugins=sum(count for kind, count in kinds.items() if kind.startswith('PLUGIN')),
        parse_s=parse_s,
        build_s=build_s,
        engine_bytes=size,
        peak_rss_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    )


def files_of(target: Path) -> list[tuple[Path, Expectation]]:
    """Return the ONNX files of a model folder with what its manifest says, or the one file."""
    if not target.is_dir():
        return [(target, Expectation())]
    manifest = load_manifest(target)
    return [
        (
            verified_file(target, manifest, role),
            Expectation(manifest.file(role).precision, manifest.inputs, manifest.outputs),
        )
        for role in ONNX_ROLES
        if role in manifest.files
    ]


def _strongly_typed(library: Any) -> int:
    """Return the creation flags: strongly typed, which newer libraries always are."""
    flag = getattr(library.NetworkDefinitionCreationFlag, 'STRONGLY_TYPED', None)
    return 0 if flag is None else 1 << int(flag)


def _build(library: Any, builder: Any, network: Any) -> tuple[float, int]:
    start = time.monotonic()
    engine = builder.build_serialized_network(network, builder.create_builder_config())
    return time.monotonic() - start, 0 if engine is None else engine.nbytes


def _contract_problems(network: Any, expected: Expectation) -> list[str]:
    if expected.inputs is None or expected.outputs is None:
        return []
    inputs, outputs = network_specs(network)
    pairs = (('inputs', expected.inputs, inputs), ('outputs', expected.outputs, outputs))
    return [
        f'{what}: {[str(s) for s in found]} found, {[str(s) for s in wanted]} expected'
        for what, wanted, found in pairs
        if set(wanted) != set(found)
    ]


def _node(error: Any) -> str:
    """Return the name of the node that a parser error is about, where it says so."""
    name = error.node_name() if hasattr(error, 'node_name') else ''
    return f'{name}: ' if name else ''


def main(arguments: list[str] | None = None) -> int:
    """Check every file, print a report for each; return 1 where one fails."""
    parser = argparse.ArgumentParser(description='Parse and build ONNX files with TensorRT.')
    parser.add_argument('target', type=Path, nargs='+', help='model folder or ONNX file')
    parser.add_argument('--json', action='store_true', help='one JSON object per file')
    parser.add_argument('--no-build', action='store_true', help='parse and look only')
    args = parser.parse_args(arguments)
    logging.disable()  # the report says what the library logs
    failed = False
    try:
        for path, expected in [pair for target in args.target for pair in files_of(target)]:
            report = check_file(path, expected, build=not args.no_build)
            text = json.dumps(dataclasses.asdict(report)) if args.json else str(report)
            sys.stdout.write(text + '\n')
            sys.stdout.flush()
            failed |= bool(report.problems)
    except CigoccError as error:
        sys.stderr.write(f'parser gate: {error}\n')
        return 2
    return int(failed)


if __name__ == '__main__':
    sys.exit(main())
