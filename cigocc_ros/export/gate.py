"""Write a model folder only after its ONNX file has been proved against the torch network."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cigocc_ros.core.config import ModelConfig
from cigocc_ros.core.errors import CigoccError
from cigocc_ros.core.manifest import MANIFEST_FILE, ModelManifest, file_spec, write_manifest
from cigocc_ros.core.mapping import to_mapping
from cigocc_ros.export.parity import ParityReport, compare, random_inputs
from cigocc_ros.export.to_onnx import INPUT_NAMES, write_onnx
from cigocc_ros.export.wrapper import ExportModel
from cigocc_ros.runtime.contract import Arrays, manifest_for
from cigocc_ros.runtime.onnxruntime_engine import ONNX_ROLE, OnnxRuntimeEngine

logger = logging.getLogger(__name__)

ONNX_FILE = 'model.onnx'
MIN_AGREEMENT = 0.999
"""Share of voxels that must agree on every input, in label and in probability.

Not 1: where two logits, or a proposal's probability and its threshold, lie within float rounding
of each other, the two runtimes may decide differently and both be right.
"""
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


def export_model(
    model: nn.Module,
    config: ModelConfig,
    out_dir: Path,
    facts: ModelFacts,
    num_inputs: int = DEFAULT_GATE_INPUTS,
) -> ParityReport:
    """Write model.onnx and manifest.yaml into `out_dir` and return how well they agree with torch.

    Both are made in a folder beside it and moved only when ONNX Runtime, loading them the way the
    node does, agrees with torch on random frames. Raises GraphError or ParityError and leaves
    `out_dir` as it was otherwise.
    """
    staging = out_dir.parent / f'.{out_dir.name}.partial'
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        inputs = random_inputs(config.image_size, num_inputs, GATE_SEED)
        write_onnx(model, inputs[0], staging / ONNX_FILE)
        manifest = _stage_manifest(staging, config, facts)
        report = _parity(model, staging, manifest, inputs)
        require_parity(report)
        _move(staging, out_dir)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    logger.info('%s: written, %s', out_dir, report)
    return report


def require_parity(report: ParityReport) -> None:
    """Raise ParityError unless labels and probabilities agree on MIN_AGREEMENT of the voxels."""
    if min(report.label_agreement, report.probability_agreement) < MIN_AGREEMENT:
        raise ParityError(
            f'the ONNX file is wrong and was not written: {report}; expected at least '
            f'{100 * MIN_AGREEMENT} % of both'
        )


def torch_reference(model: nn.Module, arrays: Arrays) -> Arrays:
    """Return the named outputs of the torch network for named numpy inputs."""
    wrapper = ExportModel(model)
    tensors = [torch.from_numpy(arrays[name].copy()) for name in INPUT_NAMES]
    with torch.inference_mode():
        outputs = wrapper(*tensors)
    named = zip(wrapper.output_names, outputs, strict=True)
    return {name: tensor.numpy() for name, tensor in named}


def _parity(
    model: nn.Module, folder: Path, manifest: ModelManifest, inputs: list[Arrays]
) -> ParityReport:
    engine = OnnxRuntimeEngine(folder, manifest, torch.get_num_threads())
    try:
        return compare(lambda arrays: torch_reference(model, arrays), engine.run, inputs)
    finally:
        engine.close()


def _stage_manifest(folder: Path, config: ModelConfig, facts: ModelFacts) -> ModelManifest:
    training = {**facts.training, 'config': to_mapping(config)}
    manifest = manifest_for(
        config,
        facts.model_id,
        license=facts.license,
        files={ONNX_ROLE: file_spec(folder, ONNX_FILE)},
        training=training,
    )
    write_manifest(folder, manifest)
    return manifest


def _move(staging: Path, out_dir: Path) -> None:
    """Put both files in place; a crash in between leaves a hash mismatch, which loading refuses."""
    out_dir.mkdir(parents=True, exist_ok=True)
    for name in (ONNX_FILE, MANIFEST_FILE):
        os.replace(staging / name, out_dir / name)
