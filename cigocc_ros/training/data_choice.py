"""What --data and --val name: a folder, some of its sequences, its share of the draws."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from cigocc_ros.core.config import ModelConfig
from cigocc_ros.core.errors import ConfigError, DataFileError
from cigocc_ros.data.kitti_layout import (
    IMAGES,
    SPLITS,
    VOXEL_INVALID,
    VOXEL_LABELS,
    VOXELS_EVERY,
    Part,
    find_sequences,
    labelled_frames,
    require_files,
)
from cigocc_ros.data.kitti_sequence import LEFT_ONLY, Side
from cigocc_ros.data.label_images import LabelImages
from cigocc_ros.data.stereo_config import DEFAULT_STEREO, StereoConfig
from cigocc_ros.training.cache import FrameRef, cache_key, find_frames
from cigocc_ros.training.shards import SUFFIX, packed_frames

NOTHING = 'none'
SYNTAX = 'DIR[@SEQUENCES][:WEIGHT]'
_PATTERN = re.compile(r'(?P<root>.+?)(@(?P<names>[\w,-]+))?(:(?P<weight>[\d.]+))?')
OFFICIAL_PARTS = (IMAGES, VOXEL_LABELS, VOXEL_INVALID)
"""What every use of an official split needs."""


@dataclass(frozen=True)
class DataChoice:
    """Frames that are asked for.

    `dataset@train` and `dataset@val` are the official splits of SemanticKITTI, which must be
    complete; `dataset@00,02` are sequences; `dataset:0.5` is all of it for half of the draws.
    """

    root: Path
    sequences: tuple[str, ...] | None = None
    weight: float | None = None

    @property
    def name(self) -> str:
        """The choice without the place of its folder, for records that travel."""
        sequences = '' if self.sequences is None else f'@{",".join(self.sequences)}'
        weight = '' if self.weight is None else f':{self.weight:g}'
        return f'{self.root.resolve().name}{sequences}{weight}'

    @classmethod
    def parse(cls, text: str) -> DataChoice:
        """Read SYNTAX; a folder whose name looks like it is taken as it is. ConfigError."""
        if text and Path(text).is_dir():
            return cls(Path(text))
        match = _PATTERN.fullmatch(text)
        if match is None:
            raise ConfigError(f'expected {SYNTAX}, found {text!r}')
        names, weight = match['names'], match['weight']
        try:
            share = None if weight is None else float(weight)
        except ValueError as error:
            raise ConfigError(f'expected a number after ":" in {text!r}') from error
        return cls(Path(match['root']), tuple(names.split(',')) if names else None, share)

    def frames(
        self,
        config: ModelConfig,
        cache: Path | None = None,
        truth: Path | None = None,
        sides: Collection[Side] = LEFT_ONLY,
        teacher: Path | None = None,
        parts: Sequence[Part] = OFFICIAL_PARTS,
        stereo: StereoConfig = DEFAULT_STEREO,
        semantics: LabelImages | None = None,
        volumes: bool = True,
    ) -> list[FrameRef]:
        """List the frames; raise DataFileError where a sequence that is named has none.

        `truth` stands in for the volumes of a data set that has none; `teacher` is a cache of
        these frames. `parts` are what an official split must have; `stereo` the settings of the
        matcher; `semantics` label images of all left images. Without `volumes` every image that
        teaches anything in 2D is a frame, of an official split all of them.
        """
        if is_packed(self.root):
            return self._packed(config, volumes)
        names = self.sequences
        if names is not None and len(names) == 1 and names[0] in SPLITS:
            names = SPLITS[names[0]]
            every = VOXELS_EVERY if volumes else 1
            require_files(self.root, labelled_frames(names, every), parts)
        has_volumes = any(VOXEL_LABELS.files(path) for path in find_sequences(self.root))
        truth = None if has_volumes else truth
        frames = find_frames(
            self.root, config, cache, names, truth, sides, teacher, stereo, semantics, volumes
        )
        missing = sorted(set(names or ()) - {frame.sequence.name for frame in frames})
        if missing and not volumes:
            raise DataFileError(f'{self.root}: no sequences {", ".join(missing)}')
        if missing:
            raise DataFileError(
                f'{self.root}: no labelled frames in the sequences {", ".join(missing)}: expected '
                f'{self.root}/sequences/{missing[0]}/voxels/*.label'
            )
        return frames

    def _packed(self, config: ModelConfig, volumes: bool) -> list[FrameRef]:
        """List the frames of shards; which, and what of them, was chosen when they were packed."""
        if self.sequences is not None:
            raise ConfigError(
                f'{self.root} holds shards: the sequences were chosen when they were packed'
            )
        return packed_frames(self.root, cache_key(config, volumes=volumes))


def is_packed(root: Path) -> bool:
    """Say whether a folder holds shards of `cigocc pack` rather than a data set."""
    return any(root.glob(f'*{SUFFIX}'))


def one_each(option: str, given: Sequence[str] | None, count: int) -> list[str | None]:
    """Return what an option says of each of `count` --data, None for none; raise ConfigError."""
    named = list(given or [NOTHING] * count)
    if len(named) != count:
        raise ConfigError(
            f'{option}: expected one for each of the {count} --data, in their order, {NOTHING!r} '
            f'for none; found {len(named)}'
        )
    return [None if one == NOTHING else one for one in named]


def shares(choices: list[DataChoice]) -> list[float] | None:
    """Return the weights of the choices, None where none has one; ConfigError for some only."""
    weights = [choice.weight for choice in choices if choice.weight is not None]
    if weights and len(weights) < len(choices):
        named = [str(choice.root) for choice in choices if choice.weight is None]
        raise ConfigError(
            f'--data: give all folders a weight, or none; without one: {", ".join(named)}'
        )
    return weights or None
