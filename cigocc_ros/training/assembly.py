"""Put a run together: which frames it draws, which network it starts from, what it writes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lightning_fabric import Fabric
from tqdm import tqdm

from cigocc_ros.core.config import ModelConfig
from cigocc_ros.core.errors import ConfigError
from cigocc_ros.data.kitti_sequence import LEFT_ONLY, Side
from cigocc_ros.data.label_images import LabelImages, parse_label_images
from cigocc_ros.model.backbone import load_backbone_weights, packaged_weights
from cigocc_ros.model.build import build_model, checkpoint_tensors, load_checkpoint
from cigocc_ros.model.cigocc import CigOcc
from cigocc_ros.model.fddwnet_branch import FddwnetBranch
from cigocc_ros.training.arrivals import ShardWatch
from cigocc_ros.training.cache import FrameRef, cache_key, turned_frames
from cigocc_ros.training.config import Stage, TrainConfig
from cigocc_ros.training.data_choice import DataChoice, is_packed, one_each, shares
from cigocc_ros.training.data_needs import (
    lacking_everywhere,
    official_parts,
    require_features,
    require_priors,
)
from cigocc_ros.training.loop import StageData, Trainer
from cigocc_ros.training.mixture import FrameSet, Mixture
from cigocc_ros.training.preparation import prepare_frames
from cigocc_ros.training.resident import require_resident
from cigocc_ros.training.scene_dataset import SceneDataset, TrainingStream

logger = logging.getLogger('cigocc_ros.training')
PACKAGED_BACKBONE, RANDOM_BACKBONE = 'package', 'random'


@dataclass(frozen=True)
class DataSources:
    """What a run is told of its data, as words; see `cigocc train --help`."""

    data: Sequence[str]
    teachers: Sequence[str] | None = None
    """A folder of `cigocc teacher` for each of `data`."""
    semantics: Sequence[str] | None = None
    """Label images as DIR:CLASSES for each of `data`."""
    val: str | None = None
    ground_truth: Path | None = None
    cache: Path | None = None

    @cached_property
    def choices(self) -> list[DataChoice]:
        """The folders to train on."""
        return [DataChoice.parse(text) for text in self.data]

    @cached_property
    def validation(self) -> DataChoice | None:
        """The folder to validate with."""
        return None if self.val is None else DataChoice.parse(self.val)

    @cached_property
    def label_images(self) -> list[LabelImages | None]:
        """The label images of each folder."""
        named = one_each('--semantic-prior', self.semantics, len(self.data))
        return [None if text is None else parse_label_images(text) for text in named]

    def training_frames(
        self, model: ModelConfig, config: TrainConfig, volumes: bool = True
    ) -> list[list[FrameRef]]:
        """List the frames of each folder, not prepared yet; say what all of them lack.

        Without `volumes` those from whose images anything can be learnt, see find_frames.
        """
        sides: tuple[Side, ...] = ('left', 'right') if config.both_cameras else LEFT_ONLY
        teachers = one_each('--teacher', self.teachers, len(self.data))
        sets = [
            choice.frames(
                model,
                self.cache,
                self.ground_truth,
                sides,
                None if teacher is None else Path(teacher),
                official_parts(config, teacher is not None, volumes=volumes),
                config.stereo,
                semantics,
                volumes,
            )
            for choice, teacher, semantics in zip(
                self.choices, teachers, self.label_images, strict=True
            )
        ]
        if config.augment.turned and volumes:
            sets = [frames + turned_frames(frames) for frames in sets]
        every = [frame for frames in sets for frame in frames]
        for sentence in lacking_everywhere(every, config, volumes):
            logger.warning('%s', sentence)
        return sets

    def validation_frames(
        self, model: ModelConfig, config: TrainConfig, volumes: bool = True
    ) -> list[FrameRef]:
        """List the frames to validate with; raise DataFileError where they lack a prior.

        Label images are those of the same folder among the data to train on, if it is there.
        """
        choice = self.validation
        if choice is None:
            return []
        found = zip(self.choices, self.label_images, strict=True)
        same = [images for one, images in found if one.root.resolve() == choice.root.resolve()]
        frames = choice.frames(
            model,
            self.cache,
            self.ground_truth,
            parts=official_parts(config, teacher=False, trains=False, volumes=volumes),
            stereo=config.stereo,
            semantics=same[0] if same else None,
            volumes=volumes,
        )
        require_priors(frames, config.validation_priors)
        return frames


def assemble(
    sources: DataSources,
    model: ModelConfig,
    config: TrainConfig,
    network: CigOcc,
    out: Path,
    fabric: Fabric,
    stages: Sequence[Stage] = ('joint',),
) -> Trainer:
    """Return the trainer of a run: what can be checked without work first, then the frames.

    The stage `eyes` among `stages` learns from images with and without volumes, the others from
    those with volumes.
    """
    if config.resident:
        require_resident(config, stages)
    weights = shares(sources.choices)
    kinds = [kind for kind in (False, True) if kind in {stage != 'eyes' for stage in stages}]
    found = [_Frames.listed(sources, model, config, volumes=kind) for kind in kinds]
    if len(found) > 1 and config.losses.distill > 0:
        require_features([frame for frames in found[-1].sets for frame in frames])
    data = [frames.prepared(sources, weights, model, config) for frames in found]
    val = sources.validation
    return Trainer(
        model=network,
        stream=data[-1].stream,
        validation=data[-1].validation,
        config=config,
        out=out,
        fabric=fabric,
        eyes=data[0] if len(data) > 1 else None,
        watch=watch_of(sources, model, weights, kinds[-1]) if config.new_shards_every else None,
        data={
            'data': [one.name for one in sources.choices],
            'val': None if val is None else val.name,
        },
    )


def watch_of(
    sources: DataSources, model: ModelConfig, weights: list[float] | None, volumes: bool
) -> ShardWatch | None:
    """Return what looks for shards that come later; None where no folder holds any.

    `volumes` says whether their frames must have some.
    """
    folders = [
        (0 if weights is None else index, choice.root)
        for index, choice in enumerate(sources.choices)
        if is_packed(choice.root)
    ]
    return ShardWatch(folders, cache_key(model, volumes=volumes)) if folders else None


@dataclass(frozen=True)
class _Frames:
    """The frames of a stage, to train on by folder and to validate with."""

    sets: list[list[FrameRef]]
    val: list[FrameRef]
    volumes: bool

    @classmethod
    def listed(
        cls, sources: DataSources, model: ModelConfig, config: TrainConfig, volumes: bool
    ) -> _Frames:
        """List them and check what can be checked without work."""
        sets = sources.training_frames(model, config, volumes)
        return cls(sets, sources.validation_frames(model, config, volumes), volumes)

    def prepared(
        self,
        sources: DataSources,
        weights: list[float] | None,
        model: ModelConfig,
        config: TrainConfig,
    ) -> StageData:
        """Prepare what is not yet; return what draws from it."""
        for choice, frames in zip(sources.choices, self.sets, strict=True):
            prepare(choice.root.name, frames, model, config)
        prepare('validation frames', self.val, model, config)
        mixture = mixture_of(self.sets, weights, config.seed)
        flat, priors = not self.volumes, config.validation_priors if self.val else ()
        return StageData(
            TrainingStream(mixture, model, config.augment, config.seed, flat=flat),
            [SceneDataset(self.val, model, prior, flat) for prior in priors],
        )


def mixture_of(sets: list[list[FrameRef]], weights: list[float] | None, seed: int) -> Mixture:
    """Join sets of frames: by their weights, else as one set."""
    if weights is None:
        return Mixture.of([frame for frames in sets for frame in frames], seed)
    pairs = zip(sets, weights, strict=True)
    return Mixture(tuple(FrameSet(tuple(frames), weight) for frames, weight in pairs), seed)


def prepare(name: str, frames: list[FrameRef], model: ModelConfig, config: TrainConfig) -> None:
    """Prepare frames that are not yet, showing progress."""
    todo = [frame for frame in frames if not frame.is_prepared]
    done = prepare_frames(todo, model, stereo=config.stereo)
    for _ in tqdm(done, total=len(todo), desc=f'preparing {name}', disable=not todo):
        pass


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
