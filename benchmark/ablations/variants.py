"""The variants of the network, as variants.yaml lists them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from cigocc_ros.core.config import ModelConfig, from_mapping, to_mapping
from cigocc_ros.core.errors import ConfigError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
from cigocc_ros.training.config import TrainConfig

VARIANTS_FILE = Path(__file__).with_name('variants.yaml')
FULL = 'full'


Config = TypeVar('Config', bound='DataclassInstance')


@dataclass(frozen=True)
class Variant:
    """One network to train: what differs from the full one."""

    name: str
    part: str
    """Letter of the question that it answers."""
    says: str
    model: dict[str, Any] = field(default_factory=dict)
    losses: dict[str, Any] = field(default_factory=dict)

    def model_config(self, full: ModelConfig) -> ModelConfig:
        """Return the architecture; raise ConfigError for a switch that it does not have."""
        return _changed(full, self.model, f'variant {self.name}: model')

    def train_config(self, full: TrainConfig, seed: int) -> TrainConfig:
        """Return the training of one seed; raise ConfigError for a loss that it does not have."""
        losses = _changed(full.losses, self.losses, f'variant {self.name}: losses')
        return dataclasses.replace(full, losses=losses, seed=seed)


def load_variants(path: Path = VARIANTS_FILE) -> dict[str, Variant]:
    """Return the variants by name; raise ConfigError unless `full` changes nothing."""
    rows = yaml.safe_load(path.read_text(encoding='utf-8'))
    listed = [from_mapping(Variant, row, str(path)) for row in rows]
    variants = {variant.name: variant for variant in listed}
    if len(variants) != len(listed):
        raise ConfigError(f'{path}: a name is listed twice')
    full = variants.get(FULL)
    if full is None or full.model or full.losses:
        raise ConfigError(f'{path}: expected a variant {FULL!r} without changes')
    return variants


def _changed(config: Config, changes: dict[str, Any], where: str) -> Config:
    return from_mapping(type(config), {**to_mapping(config), **changes}, where)
