"""Where a network's first weights come from: checkpoints, published parts, or chance."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from cigocc_ros.core.config import ModelConfig
from cigocc_ros.core.errors import ConfigError
from cigocc_ros.model.backbone import load_backbone_weights, packaged_weights
from cigocc_ros.model.build import build_model, checkpoint_tensors, load_checkpoint
from cigocc_ros.model.cigocc import CigOcc
from cigocc_ros.model.fddwnet_branch import FddwnetBranch
from cigocc_ros.training.config import TrainConfig

logger = logging.getLogger('cigocc_ros.training')
PACKAGED_BACKBONE, RANDOM_BACKBONE = 'package', 'random'


@dataclass(frozen=True)
class Start:
    """Where a network's first weights come from, as words; see `cigocc train --help`."""

    init: Path | None = None
    """A checkpoint of the same config, all of it."""
    transfer: Path | None = None
    """A checkpoint of another config, as far as names and shapes agree."""
    backbone: str | None = None
    """A file of ImageNet weights, PACKAGED_BACKBONE or RANDOM_BACKBONE."""
    segmenter: Path | None = None
    """The published weights of FDDWNet."""

    def __post_init__(self) -> None:
        """Raise ConfigError where a checkpoint would be overwritten."""
        if self.init is not None and self.backbone is not None:
            raise ConfigError(
                f'--init {self.init} has a trained image backbone: leave --backbone out'
            )


def start_network(
    model: ModelConfig, config: TrainConfig, start: Start, resumes: bool = False
) -> CigOcc:
    """Return a network with its first weights; a run that resumes has weights of its own.

    Raises ConfigError, DataFileError.
    """
    if start.init is not None:
        network = load_checkpoint(start.init)
        if network.config != model:
            raise ConfigError(
                f'--init {start.init} holds a {network.config.name!r} network that differs from '
                f'--model {model.name!r}: --transfer takes of it what fits'
            )
    else:
        network = build_model(model)
        if start.transfer is not None:
            _transfer(network, start.transfer)
        if start.transfer is None or start.backbone is not None:
            _start_backbone(network, config, start.backbone, resumes)
    _start_segmenter(network, start, resumes)
    return network


def _transfer(network: CigOcc, folder: Path) -> None:
    """Load what has the same name and shape; say how much that is, refuse where it is nothing."""
    found, own = checkpoint_tensors(folder), network.state_dict()
    fits = {k: v for k, v in found.items() if k in own and own[k].shape == v.shape}
    if not fits:
        raise ConfigError(f'--transfer {folder}: no tensor has a name and shape of this network')
    network.load_state_dict({**own, **fits})
    new = sorted({name.split('.')[0] for name in set(own) - set(fits)})
    logger.info(
        'took %d of %d tensors from %s; new in %s', len(fits), len(own), folder, new or 'nothing'
    )


def _start_segmenter(network: CigOcc, start: Start, resumes: bool) -> None:
    """Load FDDWNet's weights where the network has it and they are given; else say so."""
    if not isinstance(network.semantic, FddwnetBranch):
        if start.segmenter is not None:
            raise ConfigError(
                f'--segmenter: model {network.config.name!r} has no FDDWNet; give a config with '
                'semantic_branch: fddwnet'
            )
        return
    if start.segmenter is not None:
        network.semantic.load(start.segmenter)
    elif start.init is None and start.transfer is None and not resumes:
        logger.warning(
            'semantic_branch fddwnet starts from random weights, whose batch norms stay as they '
            'are: give --segmenter FILE (docs/training.md says where to get it)'
        )


def _start_backbone(
    network: CigOcc, config: TrainConfig, backbone: str | None, resumes: bool
) -> None:
    """Load the weights of the image backbone; without any, refuse or say so."""
    if backbone not in (None, RANDOM_BACKBONE):
        packaged = backbone == PACKAGED_BACKBONE
        weights = packaged_weights() if packaged else Path(backbone)
        load_backbone_weights(network.backbone, weights)
        return
    if resumes:
        return
    if network.config.backbone.frozen_norm:
        logger.warning(
            'backbone.frozen_norm keeps the statistics of random weights: set it to false, or '
            'give --backbone FILE'
        )
    if config.require_backbone and backbone is None:
        raise ConfigError(
            f'this recipe starts from a pretrained image backbone: give --backbone FILE '
            f'(docs/training.md says where to get one), or --backbone {RANDOM_BACKBONE} for '
            'random weights'
        )
    if backbone is None:
        logger.warning(
            'the image backbone starts from random weights; published methods start from '
            'ImageNet: --backbone FILE'
        )
