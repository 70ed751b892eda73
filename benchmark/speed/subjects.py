"""The networks that are timed: shipped models, and configs with random weights."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch

from benchmark.speed.measure import OTHER
from cigocc_ros.core.config import ModelConfig, from_mapping, load_model_config
from cigocc_ros.core.installed import models_dir
from cigocc_ros.core.manifest import file_spec, load_manifest, write_manifest
from cigocc_ros.export.cpu_rewrites import rewrite_for_cpu
from cigocc_ros.export.to_onnx import to_onnx, without_logits
from cigocc_ros.model.build import build_model, save_checkpoint
from cigocc_ros.runtime.contract import ONNX_ROLE, manifest_for
from cigocc_ros.runtime.random_frames import random_inputs

SEED = 11
SCOPES = 'pkg.torch.onnx.name_scopes'


@dataclass(frozen=True)
class Network:
    """The files of one config: what is timed, the same for torch, and a file that knows stages."""

    config: str
    model_dir: Path
    checkpoint_dir: Path
    staged_file: Path
    shipped: bool
    """Whether `model_dir` is a shipped, trained model; weights do not change how long it takes."""


def prepare(config_name: str, folder: Path) -> Network:
    """Write what is needed to time a config below `folder`."""
    shipped = models_dir() / config_name
    trained = (shipped / 'manifest.yaml').is_file()
    config = _trained_config(shipped) if trained else load_model_config(config_name)
    torch.manual_seed(SEED)
    model = build_model(config).eval()
    checkpoint = folder / config_name / 'checkpoint'
    checkpoint.mkdir(parents=True, exist_ok=True)
    save_checkpoint(model, checkpoint)
    (example,) = random_inputs(config.image_size, 1, SEED, config.semantic_prior)
    graph = rewrite_for_cpu(without_logits(to_onnx(model, example, with_scopes=True)))
    name_stages(graph.graph)
    staged = folder / config_name / 'model.onnx'
    onnx.save_model(graph, staged)
    files = {ONNX_ROLE: file_spec(staged.parent, staged.name, 'fp32')}
    manifest = manifest_for(
        config,
        config_name,
        license='none',
        files=files,
        training={},
        class_probability=True,
    )
    write_manifest(staged.parent, manifest)
    model_dir = shipped if trained else staged.parent
    return Network(config_name, model_dir, checkpoint, staged, trained)


def _trained_config(model_dir: Path) -> ModelConfig:
    """Return the network of a shipped model, which config/model may have left behind."""
    manifest = load_manifest(model_dir)
    return from_mapping(ModelConfig, manifest.training['config'], str(model_dir))


def name_stages(graph: onnx.GraphProto) -> None:
    """Begin the name of every node and of what it computes with @STAGE@, which runtimes keep.

    A node without a scope, of a local function or a rewrite, belongs to the stage before it.
    """
    renamed: dict[str, str] = {}
    kept = {value.name for value in (*graph.input, *graph.output, *graph.initializer)}
    stage = OTHER
    for index, node in enumerate(graph.node):
        stage = next(_stages(node), stage)
        node.name = f'@{stage}@{index}'
        node.input[:] = [renamed.get(name, name) for name in node.input]
        for name in node.output:
            if name and name not in kept:
                renamed[name] = f'@{stage}@{name}'
        node.output[:] = [renamed.get(name, name) for name in node.output]
    del graph.value_info[:]


def _stages(node: onnx.NodeProto) -> Iterator[str]:
    """Yield the child of the network that a node comes from, where it says."""
    for entry in node.metadata_props:
        if entry.key == SCOPES:
            scopes = [name.split('.') for name in ast.literal_eval(entry.value)]
            inner = [parts[1] for parts in scopes if parts[0] == 'model' and len(parts) > 1]
            yield inner[0] if inner else OTHER
