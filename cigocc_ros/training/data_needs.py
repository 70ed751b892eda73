"""What the losses and priors of a run need to find in the data, and where to get it."""

from __future__ import annotations

from collections.abc import Sequence

from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.prior import DEPTH, DEPTH_STEREO, NONE, STEREO, Prior
from cigocc_ros.core.typed_yaml import to_mapping
from cigocc_ros.data.kitti_layout import (
    CLASS_IMAGES,
    DEPTH_IMAGES,
    IMAGES,
    MAX_NAMED,
    POINT_LABELS,
    RIGHT_IMAGES,
    SCANS,
    STEREO_DEPTH,
    VOXEL_INVALID,
    VOXEL_LABELS,
    Part,
)
from cigocc_ros.training.cache import FrameRef
from cigocc_ros.training.config import TrainConfig

CLASS_LOSSES = ('masks', 'stage1_masks')
DEPTH_LOSS = 'stage1_depth'
DISTILL, WEAK_MASKS, WEAK_DEPTH = 'distill', 'weak_masks', 'weak_depth'
SOMETIMES = (DISTILL, WEAK_MASKS, WEAK_DEPTH)
"""Losses of which a single batch may have nothing, where folders of several kinds are mixed."""
TEACHING = {
    **dict.fromkeys(CLASS_LOSSES, f'{POINT_LABELS.archive} with {SCANS.archive}, or --teacher'),
    DEPTH_LOSS: SCANS.archive,
    DISTILL: 'what "cigocc teacher" writes (--teacher)',
    WEAK_MASKS: 'label images (--semantic-prior) or what "cigocc teacher" writes (--teacher)',
    WEAK_DEPTH: f'{STEREO_DEPTH.folder}/: {STEREO_DEPTH.archive}',
}
"""What a loss learns from: archives of SemanticKITTI."""
PRIOR_PARTS: dict[Prior, Part] = {STEREO: RIGHT_IMAGES, DEPTH: SCANS, DEPTH_STEREO: STEREO_DEPTH}
"""What a kind of prior is made of in SemanticKITTI, where measured depth is the lidar's."""


def official_parts(
    config: TrainConfig, teacher: bool, trains: bool = True, volumes: bool = True
) -> tuple[Part, ...]:
    """Return the parts of SemanticKITTI that a run needs, to train on or to validate with.

    `teacher` says whether the classes come from one. Without `volumes` the labelled scans are what
    is validated with.
    """
    priors = set(config.validation_priors)
    parts = [IMAGES, VOXEL_LABELS, VOXEL_INVALID] if volumes else [IMAGES]
    if not trains and not volumes:
        parts += [SCANS, POINT_LABELS]
    if trains:
        priors = {kind for kind, part in config.augment.prior_fractions.items() if part > 0}
        weights = to_mapping(config.losses)
        if weights[DEPTH_LOSS] > 0:
            parts.append(SCANS)
        taught = teacher and volumes  # whose masks stand in for those of the data
        if any(weights[name] > 0 for name in CLASS_LOSSES) and not taught:
            parts += [SCANS, POINT_LABELS]
    parts += [part for kind, part in PRIOR_PARTS.items() if kind in priors]
    return tuple(dict.fromkeys(parts))


def require_priors(frames: Sequence[FrameRef], priors: Sequence[Prior]) -> None:
    """Raise DataFileError naming the frames that cannot be validated with a kind of prior."""
    for kind in priors:
        missing = [frame for frame in frames if not _has_prior(frame, kind)]
        if missing:
            names = ', '.join(f'{one.sequence.name}/{one.frame_id}' for one in missing[:MAX_NAMED])
            raise DataFileError(
                f'{len(missing)} of {len(frames)} validation frames have nothing to make a {kind} '
                f'prior of, the first are {names}: unpack {PRIOR_PARTS[kind].archive}, or choose '
                'other validation_priors'
            )


def require_features(frames: Sequence[FrameRef]) -> None:
    """Raise DataFileError where a frame of a later stage has no teacher: told before the first."""
    without = [frame for frame in frames if frame.sources and frame.teacher is None]
    if without:
        raise DataFileError(
            f'losses.distill is above 0, but {len(without)} of {len(frames)} frames with volumes '
            'have no teacher, which only the stage eyes allows: name one with --teacher for every '
            'folder, or train eyes and joint one after the other (--init)'
        )


def lacking_everywhere(
    frames: Sequence[FrameRef], config: TrainConfig, volumes: bool = True
) -> list[str]:
    """Return what no frame of a set has although the run asks for it, one sentence each.

    Data of one's own need not have everything, but a loss that is silently 0 or a prior that is
    never drawn should be known of. Raises DataFileError where no prior that is asked for is there,
    or no teacher. `volumes` says whether the frames have any: only without do the losses to what
    other networks say take part, and a teacher's masks are not those of the data.
    """
    if any(not frame.sources for frame in frames):
        return []  # frames that came packed do not tell what they were made of
    there = {path.parent.name for frame in frames for path in frame.sources}
    has_teacher = any(frame.teacher is not None for frame in frames)
    has_scans, has_labels = SCANS.folder in there, POINT_LABELS.folder in there
    asked = [name for name, weight in to_mapping(config.losses).items() if weight > 0]
    silent: list[str] = []
    stands_in = has_teacher and volumes
    if not (stands_in or CLASS_IMAGES.folder in there or (has_scans and has_labels)):
        silent += [name for name in CLASS_LOSSES if name in asked]
    if not (has_scans or DEPTH_IMAGES.folder in there):
        silent += [name for name in (DEPTH_LOSS,) if name in asked]
    if not volumes:
        silent += [name for name in _unsaid(frames, there) if name in asked]
    if DISTILL in silent:
        raise DataFileError(
            'losses.distill is above 0, but no folder has features of a teacher: write them with '
            '"cigocc teacher" and name them with --teacher, or set losses.distill to 0'
        )
    wanted = [kind for kind, fraction in config.augment.prior_fractions.items() if fraction > 0]
    never = [kind for kind in wanted if not any(_has_prior(frame, kind) for frame in frames)]
    if never == wanted:
        raise DataFileError(
            f'no frame has a depth prior of a kind that augment asks for ({", ".join(wanted)}): '
            f'unpack {PRIOR_PARTS[never[0]].archive}, or set augment.prior_none'
        )
    return [
        *(f'the loss {name} stays 0: no frame has {TEACHING[name]}' for name in silent),
        *(f'the prior {kind} is never drawn: {PRIOR_PARTS[kind].archive}' for kind in never),
    ]


def _unsaid(frames: Sequence[FrameRef], there: set[str]) -> list[str]:
    """Return the losses to what other networks say that no frame has anything for."""
    has_teacher = any(frame.teacher is not None for frame in frames)
    has_labels = any(frame.semantics is not None for frame in frames)
    found = {
        DISTILL: has_teacher,
        WEAK_MASKS: has_teacher or has_labels,
        WEAK_DEPTH: STEREO_DEPTH.folder in there,
    }
    return [name for name, known in found.items() if not known]


def _has_prior(frame: FrameRef, kind: Prior) -> bool:
    """Say whether a frame can have a kind of prior once it is prepared; packed ones may."""
    if not frame.sources:
        return True
    folders = {path.parent.name for path in frame.sources if path.stem == frame.frame_id}
    if kind == NONE:
        return True
    if kind == DEPTH_STEREO and frame.side != 'left':
        return False
    if kind == DEPTH and frame.side == 'left' and DEPTH_IMAGES.folder in folders:
        return True
    return PRIOR_PARTS[kind].folder in folders
