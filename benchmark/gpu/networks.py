"""The networks of the list: trained where a checkpoint is given, else with random weights."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from torch import Tensor

from benchmark.gpu.device import require
from cigocc_ros.core.config import ModelConfig, load_model_config
from cigocc_ros.export.gate import ModelFacts, export_model
from cigocc_ros.export.to_onnx import input_names
from cigocc_ros.model.build import build_model, load_checkpoint
from cigocc_ros.model.cigocc import CigOcc
from cigocc_ros.model.output import ExportModel
from cigocc_ros.runtime.contract import Arrays
from cigocc_ros.runtime.random_frames import random_inputs

SEED = 11


def open_network(config: str, checkpoint: Path | None, device: str) -> ExportModel:
    """Return the network with its head as it is exported, on the device; fp32 is not TF32."""
    require(device)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.benchmark = True  # shapes never change
    if checkpoint is not None:
        return ExportModel(load_checkpoint(checkpoint)).to(device)
    torch.manual_seed(SEED)
    return ExportModel(build_model(load_model_config(config))).to(device)


def tensors_of(arrays: Arrays, device: str) -> tuple[Tensor, ...]:
    """Return the inputs of the network on the device."""
    return tuple(torch.from_numpy(arrays[name].copy()).to(device) for name in input_names(arrays))


def config_of(network: ExportModel) -> ModelConfig:
    """Return the config of the network that is wrapped."""
    if not isinstance(network.model, CigOcc):
        raise TypeError(f'expected a CigOcc, found {type(network.model)}')
    return network.model.config


def example(network: ExportModel, device: str) -> tuple[Tensor, ...]:
    """Return one random frame."""
    config = config_of(network)
    (arrays,) = random_inputs(config.image_size, 1, SEED, config.semantic_prior)
    return tensors_of(arrays, device)


def precision_context(precision: str, device: str) -> AbstractContextManager[object]:
    """Return what the network runs in: fp16 as in training, geometry and sampling stay fp32.

    Nothing is cached between calls, so that a CUDA graph may record the casts of the weights.
    """
    if precision == 'fp32':
        return nullcontext()
    kind = torch.device(device).type
    return torch.autocast(kind, dtype=torch.float16, cache_enabled=False)


def export_random(config: str, folder: Path) -> Path:
    """Write a model folder of a config with random weights, for TensorRT; return it."""
    network = open_network(config, None, 'cpu')
    facts = ModelFacts(f'{config}-random', 'none', {})
    export_model(network.model, config_of(network), folder, facts, num_inputs=1)
    return folder
