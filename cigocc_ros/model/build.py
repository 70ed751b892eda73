"""Build networks from configs; save and load their weights (safetensors + JSON, never pickle)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from cigocc_ros.core.config import ModelConfig, from_mapping, to_mapping
from cigocc_ros.core.errors import ConfigError, DataFileError
from cigocc_ros.core.files import replacing, write_atomically
from cigocc_ros.core.yaml_json import load_json, parse_json
from cigocc_ros.model.backbone import load_strictly
from cigocc_ros.model.cigocc import CigOcc

WEIGHTS_FILE = 'model.safetensors'
CONFIG_FILE = 'model_config.json'


def build_model(config: ModelConfig) -> CigOcc:
    """Return the network of `config` with random weights, in training mode."""
    return CigOcc(config)


def count_parameters(module: nn.Module) -> int:
    """Return the number of learned parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def save_checkpoint(
    model: CigOcc, folder: Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Write weights and config into `folder`; each file appears whole or not at all.

    `metadata` goes into the header of the weights: what they were trained with.
    """
    from safetensors.torch import save_file

    tensors = {
        name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()
    }
    with replacing(folder / WEIGHTS_FILE) as partial:
        save_file(tensors, partial, metadata=dict(metadata or {}))
    config = json.dumps(to_mapping(model.config), indent=2) + '\n'
    write_atomically(folder / CONFIG_FILE, config)


def load_checkpoint(folder: Path) -> CigOcc:
    """Return the saved network in eval mode; raise DataFileError or ConfigError on any misfit."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    config = checkpoint_config(folder)
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        raise DataFileError(f'checkpoint {folder}: {WEIGHTS_FILE} is missing')
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise DataFileError(f'{path}: not a whole safetensors file: {error}') from error
    model = build_model(config)
    load_strictly(model, tensors, str(path))
    return model.eval()


def read_checkpoint_record(folder: Path) -> dict[str, Any]:
    """Return what a checkpoint says of its making; empty where its file says nothing.

    Values that are no JSON, as other programs write them, stay text. Raises DataFileError where
    the weights cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / WEIGHTS_FILE
    try:
        with safe_open(path, 'pt') as file:
            header = dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise DataFileError(f'{path}: no weights that can be read: {error}') from error
    return {name: _value(text) for name, text in header.items()}


def _value(text: str) -> Any:
    try:
        return parse_json(f'{{"value": {text}}}', '')['value']
    except ConfigError:
        return text


def checkpoint_config(folder: Path) -> ModelConfig:
    """Return the config of a saved network; raise DataFileError or ConfigError."""
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise DataFileError(f'checkpoint {path.parent}: {path.name} is missing')
    try:
        mapping = load_json(path)
    except ConfigError as error:
        raise DataFileError(str(error)) from error
    return from_mapping(ModelConfig, mapping, str(path))
