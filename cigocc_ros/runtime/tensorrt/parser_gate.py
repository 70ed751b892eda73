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

from cigocc_ros.core.errors import CigoccError, EngineError, ManifestError
from cigocc_ros.core.manifest import MIXED_ROLE, TensorSpec, load_manifest, verified_file
from cigocc_ros.core.onnx_file import SAMPLE_OP
from cigocc_ros.runtime.contract import ONNX_ROLE
from cigocc_ros.runtime.tensorrt.library import (
    find_tensorrt,
    has_plugin,
    library_log,
    network_specs,
)
from cigocc_ros.runtime.tensorrt.network import ParsedNetwork, parse_network, plugin_loss
from cigocc_ros.runtime.tensorrt.parser_rules import (
    layer_problems,
    precision_problems,
    read_layers,
)


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
    samplings: int = 0
    """Calls of deformable sampling in the file."""
    plugins: int = 0
    expected_plugins: int = 0
    """As many as `samplings` where the library has the plugin; TensorRT-RTX has none."""
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
            f'{self.plugins} of {self.expected_plugins} plugins, parse {self.parse_s:.2f} s, '
            f'build {self.build_s:.1f} s, engine {self.engine_bytes / 1e6:.1f} MB, '
            f'peak memory {self.peak_rss_mb:.0f} MB'
        )
        loss = plugin_loss(self.library, self.plugins, self.expected_plugins)
        return '\n  '.join([line, *self.problems, *filter(None, [loss])])


def check_file(path: Path, expected: Expectation, build: bool = True) -> GateReport:
    """Parse, walk and, where nothing is wrong so far, build one ONNX file."""
    library = find_tensorrt()
    messages = library_log(library)[1]
    messages.take()
    start = time.monotonic()
    try:
        parsed = parse_network(library, path.read_bytes(), str(path), stock_plugins=True)
    except (EngineError, ManifestError) as error:
        return GateReport(str(path), str(library), (f'refused by the parser: {error}',))
    parse_s = time.monotonic() - start
    layers = read_layers(library.module, parsed.network)
    expected_plugins = parsed.samplings if has_plugin(library, SAMPLE_OP) else 0
    problems = layer_problems(layers) + _contract_problems(parsed.network, expected)
    if expected.precision is not None:
        problems += precision_problems(layers, expected.precision)
    build_s, size = 0.0, 0
    if build and not problems:
        build_s, size = _build(parsed)
        problems += [] if size else [f'refused by the builder: {messages.take()}']
    kinds, types = layers.kinds(), layers.learned_types()
    return GateReport(
        file=str(path),
        library=str(library),
        problems=tuple(problems),
        layers=len(layers.layers),
        half_layers=types['HALF'],
        learned_layers=types.total(),
        samplers=kinds['GRID_SAMPLE'],
        samplings=parsed.samplings,
        plugins=parsed.plugins,
        expected_plugins=expected_plugins,
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
        for role in (ONNX_ROLE, MIXED_ROLE)
        if role in manifest.files
    ]


def _build(parsed: ParsedNetwork) -> tuple[float, int]:
    start = time.monotonic()
    config = parsed.builder.create_builder_config()
    engine = parsed.builder.build_serialized_network(parsed.network, config)
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
