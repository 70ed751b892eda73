"""Put a run together: which frames it draws, which network it trains, what it writes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lightning_fabric import Fabric
from tqdm import tqdm

from cigocc_ros.core.config import ModelConfig
from cigocc_ros.data.kitti_sequence import LEFT_ONLY, Side
from cigocc_ros.data.label_images import LabelImages, parse_label_images
from cigocc_ros.model.cigocc import CigOcc
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
