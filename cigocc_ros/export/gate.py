"""Write a model folder only after its ONNX files have been proved against the torch network."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

from cigocc_ros.core.agreement import MIN_EXPORT_AGREEMENT, MIN_MIXED_AGREEMENT
from cigocc_ros.core.calibration import Calibration
from cigocc_ros.core.config import ModelConfig
from cigocc_ros.core.errors import CigoccError, ConfigError
from cigocc_ros.core.manifest import (
    LABELS,
    LOGITS,
    MANIFEST_FILE,
    MIXED_ROLE,
    ModelManifest,
    file_spec,
    write_manifest,
)
from cigocc_ros.core.typed_yaml import to_mapping
from cigocc_ros.export.cpu_rewrites import rewrite_for_cpu
from cigocc_ros.export.graph_rules import check_graph
from cigocc_ros.export.mixed_gate import (
    MixedReport,
    measure_mixed,
    require_mixed,
)
from cigocc_ros.export.mixed_precision import mixed_precision
from cigocc_ros.export.parity import ParityReport, compare_outputs
from cigocc_ros.export.to_onnx import input_names, to_onnx, without_logits
from cigocc_ros.model.output import ExportModel
from cigocc_ros.runtime.contract import ONNX_ROLE, Arrays, manifest_for
from cigocc_ros.runtime.onnxruntime_engine import OnnxRuntimeEngine, open_session
from cigocc_ros.runtime.random_frames import random_inputs
from cigocc_ros.runtime.self_check import GOLDEN_FILE, GOLDEN_ROLE, Golden, save_golden

logger = logging.getLogger(__name__)

ONNX_FILE, MIXED_FILE = 'model.onnx', 'model_fp16.onnx'
LOGITS_FILE = 'model_logits.onnx'
GATE_SEED = 2024
DEFAULT_GATE_INPUTS = 4


class ParityError(CigoccError, ValueError):
    """The exported file does not compute what the torch network computes."""


@dataclass(frozen=True)
class ModelFacts:
    """What the manifest says about the weights beside their config."""

    model_id: str
    license: str
    training: Mapping[str, Any]
    """Data, steps, seed, commit: whatever the checkpoint recorded."""
    calibration: Calibration | None = None
    """Goes into the graphs and the manifest alike."""


@dataclass(frozen=True)
class ExportReport:
    """What was proved of the float32 file (against torch) and of the mixed one (against that)."""

    parity: ParityReport
    mixed: MixedReport

    def __str__(self) -> str:
        """Return two readable lines."""
        return (
            f'float32 against torch (at least {100 * MIN_EXPORT_AGREEMENT} % of each required): '
            f'{self.parity}\nmixed float16 against float32 (at least '
            f'{100 * MIN_MIXED_AGREEMENT} % required): {self.mixed}'
        )


def export_model(
    model: nn.Module,
    config: ModelConfig,
    out_dir: Path,
    facts: ModelFacts,
    num_inputs: int = DEFAULT_GATE_INPUTS,
    keep_logits: bool = False,
) -> ExportReport:
    """Write both ONNX files, golden.npz and manifest.yaml into `out_dir`; return what was proved.

    They are made in a folder beside it and moved only when ONNX Runtime, loading them the way the
    node does, agrees with torch on random frames, and the mixed file with both. Raises GraphError,
    ParityError or PrecisionError and leaves `out_dir` as it was otherwise. `keep_logits` adds
    model_logits.onnx for evaluation.
    """
    if num_inputs < 1:
        raise ConfigError(f'the gate needs at least one input, found {num_inputs}')
    staging = out_dir.parent / f'.{out_dir.name}.partial'
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        inputs = random_inputs(config.image_size, num_inputs, GATE_SEED, config.semantic_prior)
        _write_graphs(model, inputs[0], staging, facts.calibration)
        expected = [torch_reference(model, arrays, facts.calibration) for arrays in inputs]
        _write_golden(inputs[-1], expected[-1], staging)
        manifest = _write_manifest(staging, config, facts)
        report = _prove(staging, manifest, inputs, expected)
        _move(staging, out_dir, keep_logits)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    logger.info('%s: written\n%s', out_dir, report)
    return report


def require_parity(report: ParityReport) -> None:
    """Raise ParityError unless all outputs agree on MIN_EXPORT_AGREEMENT of the voxels."""
    if report.worst.least < MIN_EXPORT_AGREEMENT:
        raise ParityError(
            f'the ONNX file is wrong and was not written: {report}; expected at least '
            f'{100 * MIN_EXPORT_AGREEMENT} % of each'
        )


def torch_reference(
    model: nn.Module, arrays: Arrays, calibration: Calibration | None = None
) -> Arrays:
    """Return all outputs of the torch network for named inputs, and the logits."""
    wrapper = ExportModel(model, with_logits=True, calibration=calibration)
    tensors = [torch.from_numpy(arrays[name].copy()) for name in input_names(arrays)]
    with torch.inference_mode():
        outputs = wrapper(*tensors)
    named = zip(wrapper.output_names, outputs, strict=True)
    return {name: tensor.numpy() for name, tensor in named}


def _write_graphs(
    model: nn.Module, example: Arrays, folder: Path, calibration: Calibration | None
) -> None:
    """Write the three files."""
    graph = to_onnx(model, example, calibration=calibration)
    onnx.save_model(rewrite_for_cpu(graph), folder / LOGITS_FILE)
    deployed = without_logits(graph)
    onnx.save_model(rewrite_for_cpu(deployed), folder / ONNX_FILE)
    mixed = mixed_precision(deployed)
    check_graph(mixed)
    onnx.save_model(mixed, folder / MIXED_FILE)


def _write_golden(arrays: Arrays, answers: Arrays, folder: Path) -> None:
    outputs = {name: array for name, array in answers.items() if name != LOGITS}
    save_golden(folder / GOLDEN_FILE, Golden(arrays, outputs))


def _write_manifest(folder: Path, config: ModelConfig, facts: ModelFacts) -> ModelManifest:
    manifest = manifest_for(
        config,
        facts.model_id,
        license=facts.license,
        files={
            ONNX_ROLE: file_spec(folder, ONNX_FILE, 'fp32'),
            MIXED_ROLE: file_spec(folder, MIXED_FILE, 'mixed_fp16'),
            GOLDEN_ROLE: file_spec(folder, GOLDEN_FILE),
        },
        training={**facts.training, 'config': to_mapping(config)},
        class_probability=True,
        calibration=facts.calibration,
    )
    write_manifest(folder, manifest)
    return manifest


def _prove(
    folder: Path, manifest: ModelManifest, inputs: list[Arrays], expected: list[Arrays]
) -> ExportReport:
    """Compare torch with model.onnx and its twin (logits), then the mixed file with model.onnx.

    One network is in memory at a time: those of `full` need gigabytes each for what is between
    their layers. The answers of torch are used up.
    """
    threads = torch.get_num_threads()
    with closing(OnnxRuntimeEngine(folder, manifest, threads, frugal=True)) as engine:
        found = [engine.run(arrays) for arrays in inputs]
    twin = open_session(folder / LOGITS_FILE, threads, frugal=True)
    logits = (twin.run([LOGITS], arrays)[0] for arrays in inputs)
    parity = compare_outputs(
        (expected.pop(0), {**outputs, LOGITS: scores})
        for outputs, scores in zip(found, logits, strict=True)
    )
    del twin, logits
    require_parity(parity)
    labels = [outputs[LABELS] for outputs in found]
    mixed = measure_mixed(folder / MIXED_FILE, inputs, labels, threads)
    require_mixed(mixed)
    return ExportReport(parity, mixed)


def _move(staging: Path, out_dir: Path, keep_logits: bool) -> None:
    """Put the files in place, the manifest last: a crash in between leaves hashes that misfit."""
    out_dir.mkdir(parents=True, exist_ok=True)
    names = [ONNX_FILE, MIXED_FILE, GOLDEN_FILE, MANIFEST_FILE]
    for name in [LOGITS_FILE, *names] if keep_logits else names:
        os.replace(staging / name, out_dir / name)
