"""Build networks from configs; save and load checkpoints (safetensors + JSON, never pickle)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from cigocc_ros.core.config import ModelConfig, from_mapping, to_mapping
from cigocc_ros.core.errors import ConfigError, DataFileError, ManifestError
from cigocc_ros.core.files import write_atomically
from cigocc_ros.core.manifest import (
    MANIFEST_FILE,
    WEIGHTS_CONFIG_ROLE,
    WEIGHTS_ROLE,
    load_manifest,
    verified_file,
)
from cigocc_ros.core.yaml_json import load_json, parse_json
from cigocc_ros.model.backbone import load_strictly
from cigocc_ros.model.cigocc import CigOcc
from cigocc_ros.model.weight_files import (
    WeightPrecision,
    read_record,
    read_weights,
    weight_files,
    write_weights,
)

CONFIG_FILE = 'model_config.json'


def build_model(config: ModelConfig) -> CigOcc:
    """Return the network of `config` with random weights, in training mode."""
    return CigOcc(config)


def count_parameters(module: nn.Module) -> int:
    """Return the number of learned parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def save_checkpoint(
    model: CigOcc,
    folder: Path,
    metadata: Mapping[str, str] | None = None,
    precision: WeightPrecision = 'fp32',
    part_mib: float | None = None,
) -> list[Path]:
    """Write weights and config into `folder`, each file whole or not at all; return the files.

    `metadata` goes into the header of the weights: what they were trained with. `weight_files`
    says what float16 and parts are.
    """
    config = json.dumps(to_mapping(model.config), indent=2) + '\n'
    paths = write_weights(folder, model.state_dict(), metadata or {}, precision, part_mib)
    write_atomically(folder / CONFIG_FILE, config)
    return [*paths, folder / CONFIG_FILE]


def load_checkpoint(folder: Path) -> CigOcc:
    """Return the saved network in eval mode; raise DataFileError or ConfigError on any misfit.

    In a model folder the hashes of its manifest must fit: ManifestError.
    """
    if (folder / MANIFEST_FILE).is_file():  # said first: such a folder may hold nothing but ONNX
        _check_model_folder(folder)
    model = build_model(checkpoint_config(folder))
    load_strictly(model, read_weights(folder), str(folder))
    return model.eval()


def checkpoint_tensors(folder: Path) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint by name, whatever network they are of; raise as above."""
    if (folder / MANIFEST_FILE).is_file():
        _check_model_folder(folder)
    return read_weights(folder)


def _check_model_folder(folder: Path) -> None:
    """Raise ManifestError unless the checkpoint in a model folder is what its manifest lists."""
    manifest = load_manifest(folder)
    if WEIGHTS_ROLE not in manifest.files:
        raise ManifestError(
            f'{folder}: the manifest lists no weights to go on from, only what runs; put them '
            f'there with "cigocc weights CHECKPOINT --out {folder}"'
        )
    listed = [
        verified_file(folder, manifest, role) for role in (WEIGHTS_ROLE, WEIGHTS_CONFIG_ROLE)
    ]
    found = [*weight_files(folder), folder / CONFIG_FILE]
    if listed != found:
        names = [path.name for path in found]
        raise ManifestError(
            f'{folder}: the manifest lists {[path.name for path in listed]} as the weights, '
            f'{names} are there; write them again with "cigocc weights"'
        )


def read_checkpoint_record(folder: Path) -> dict[str, Any]:
    """Return what a checkpoint says of its making; empty where its file says nothing.

    Values that are no JSON, as other programs write them, stay text. Raises DataFileError where
    the weights cannot be read.
    """
    return {name: _value(text) for name, text in read_record(folder).items()}


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
