"""Training and validation samples from prepared frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from cigocc_ros.core.arrays import Arrays
from cigocc_ros.core.config import FEATURE_STRIDE, ModelConfig
from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.labels import IGNORE, NUM_CLASSES
from cigocc_ros.core.prior import DEPTH, DEPTH_STEREO, NONE, STEREO, Prior
from cigocc_ros.core.projection import velo_from_pixel
from cigocc_ros.training.augmentation import (
    Sample,
    degrade_classes,
    draw_kind,
    flip_sample,
    jitter_colors,
    prior_of_kind,
)
from cigocc_ros.training.cache import FrameRef, load_frame
from cigocc_ros.training.config import AugmentConfig
from cigocc_ros.training.image_augmentation import draw_move, move_arrays, vary_image
from cigocc_ros.training.image_targets import image_targets, unpacked
from cigocc_ros.training.mixture import Mixture
from cigocc_ros.training.teacher.folder import student_features

PRIOR_ARRAYS: dict[Prior, str] = {
    DEPTH: 'measured',
    STEREO: 'stereo',
    DEPTH_STEREO: 'depth_stereo',
}
"""The array of a prepared frame that holds a kind of prior."""


class Batch(NamedTuple):
    """Collated samples: the fields of Sample as tensors with a leading batch axis."""

    image: Tensor
    depth_prior: Tensor
    pixel_from_velo: Tensor
    velo_from_pixel: Tensor
    labels: Tensor
    query_labels: Tensor
    masks: Tensor
    mask_valid: Tensor
    depth: Tensor
    semantic_prior: Tensor
    teacher_features: Tensor | None = None
    extra: BatchTargets | None = None


class BatchTargets(NamedTuple):
    """The fields of ImageTargets as tensors with a leading batch axis."""

    masks: Tensor
    valid: Tensor
    depth: Tensor
    classes: Tensor


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples; teacher features and extra targets only where all samples have them."""
    always = len(Sample._fields) - len(Sample._field_defaults)
    stacked = default_collate([tuple(one)[:always] for one in samples])
    features = [one.teacher_features for one in samples if one.teacher_features is not None]
    extra = [tuple(one.extra) for one in samples if one.extra is not None]
    every = len(samples)
    teacher = default_collate(features) if len(features) == every else None
    targets = BatchTargets(*default_collate(extra)) if len(extra) == every else None
    return Batch._make([*stacked, teacher, targets])


class SceneDataset(Dataset[Sample]):
    """Frames as they are, with one fixed kind of depth prior: for validation."""

    def __init__(
        self,
        frames: Sequence[FrameRef],
        config: ModelConfig,
        prior: Prior = STEREO,
        flat: bool = False,
    ) -> None:
        """Take prepared frames; `prior` names the depth given to the model.

        `flat` samples are for a stage that has no 3D part.
        """
        self.frames = tuple(frames)
        self.config = config
        self.prior = prior
        self.flat = flat

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.frames)

    def __getitem__(self, index: int) -> Sample:
        """Return frame `index` unchanged; raise DataFileError if it lacks the prior."""
        arrays = load_frame(self.frames[index])
        sample = make_sample(arrays, self.config, self._prior(index, arrays))
        return without_volume(sample, arrays, self.config, self.prior) if self.flat else sample

    def _prior(self, index: int, arrays: Arrays) -> NDArray[np.float32]:
        if self.prior == NONE:
            return np.zeros(self.config.image_size, dtype=np.float32)
        priors = priors_of(arrays)
        if self.prior not in priors:
            raise DataFileError(
                f'{self.frames[index].cached} has no {self.prior} prior; the data has none, or '
                'choose other validation_priors'
            )
        return priors[self.prior]


class TrainingStream(Dataset[Sample]):
    """An endless, reproducible sequence of augmented samples.

    Draw k is the same in every run with the same seed, so training resumes by starting at k. Every
    epoch shows each frame once in a new order; of a mixture, every epoch of each of its sets.
    """

    def __init__(
        self,
        frames: Sequence[FrameRef] | Mixture,
        config: ModelConfig,
        augment: AugmentConfig,
        seed: int,
        num_draws: int = 2**31,
        flat: bool = False,
    ) -> None:
        """Take prepared frames; `flat` samples are for a stage that has no 3D part."""
        self.mixture = frames if isinstance(frames, Mixture) else Mixture.of(frames, seed)
        self.config = config
        self.augment = augment
        self.seed = seed
        self.num_draws = num_draws
        self.flat = flat

    @property
    def frames(self) -> tuple[FrameRef, ...]:
        """The frames that are drawn from."""
        return self.mixture.frames

    def __len__(self) -> int:
        """Return the number of draws."""
        return self.num_draws

    def __getitem__(self, draw: int) -> Sample:
        """Return the sample of draw `draw`."""
        rng = np.random.default_rng((self.seed, 1, draw))
        arrays = load_frame(self.mixture.frame(draw))
        return augmented_sample(arrays, self.config, self.augment, rng, self.flat)


def augmented_sample(
    arrays: Arrays,
    config: ModelConfig,
    augment: AugmentConfig,
    rng: np.random.Generator,
    flat: bool = False,
) -> Sample:
    """Draw one variation of a prepared frame; `flat` adds what images alone teach."""
    if augment.moves:
        arrays = move_arrays(arrays, draw_move(augment, config.image_size, rng))
    available = priors_of(arrays)
    kind = draw_kind(available, augment, rng)
    prior = prior_of_kind(kind, available, config.image_size, rng)
    sample = make_sample(arrays, config, prior)
    if flat:
        sample = without_volume(sample, arrays, config, kind)
    classes = sample.semantic_prior
    if classes.any():
        kept = rng.random() >= augment.semantic_none
        classes = degrade_classes(classes, rng) if kept else np.zeros_like(classes)
        sample = sample._replace(semantic_prior=classes)
    if augment.jitter > 0:
        sample = sample._replace(image=jitter_colors(sample.image, augment.jitter, rng))
    sample = sample._replace(image=vary_image(sample.image, augment, rng))
    return flip_sample(sample) if rng.random() < augment.flip else sample


def _teacher_features(arrays: Arrays) -> NDArray[np.float32] | None:
    """Return the teacher's features, (Csem, h, w), NaN where it says nothing; None without."""
    if 'teacher_grid' not in arrays:
        return None
    grid, rows, columns = (arrays[f'teacher_{name}'] for name in ('grid', 'rows', 'columns'))
    return student_features(grid, rows, columns, arrays.get('teacher_mixing'))


def without_volume(sample: Sample, arrays: Arrays, config: ModelConfig, given: Prior) -> Sample:
    """Add what the image alone teaches to a sample that was `given` a kind of depth prior.

    A depth prior never teaches itself, and where there is no teacher nothing is to be learnt of
    one: features are NaN.
    """
    extra = image_targets(arrays, config)
    if given == DEPTH_STEREO:
        extra = extra._replace(depth=np.zeros_like(extra.depth))
    features = sample.teacher_features
    if features is None:
        shape = (config.semantic_channels, *sample.depth.shape)
        features = np.full(shape, np.nan, dtype=np.float32)
    return sample._replace(extra=extra, teacher_features=features)


def priors_of(arrays: Arrays) -> dict[Prior, NDArray[np.float32]]:
    """Return the depth priors that a prepared frame has, (H, W) metres each, 0 = unknown."""
    return {
        kind: arrays[name].astype(np.float32)
        for kind, name in PRIOR_ARRAYS.items()
        if name in arrays
    }


def make_sample(arrays: Arrays, config: ModelConfig, depth_prior: NDArray[np.float32]) -> Sample:
    """Unpack a prepared frame; depth_prior is (H, W) metres, 0 = unknown.

    Of a frame without a volume every voxel is unknown.
    """
    height, width = (size // FEATURE_STRIDE for size in config.image_size)
    pixel = arrays['pixel_from_velo']
    shape = (NUM_CLASSES - 1, height, width)
    masks, valid = (unpacked(arrays[name], shape) for name in ('masks', 'mask_valid'))
    return Sample(
        image=arrays['image'],
        depth_prior=depth_prior,
        pixel_from_velo=pixel.astype(np.float32),
        velo_from_pixel=velo_from_pixel(pixel).astype(np.float32),
        labels=_volume(arrays, 'labels', config.output_shape),
        query_labels=_volume(arrays, 'query_labels', config.query_shape),
        masks=masks,
        mask_valid=valid.astype(bool),
        depth=arrays['depth'].astype(np.float32),
        semantic_prior=arrays.get('semantic_prior', np.zeros((height, width), dtype=np.uint8)),
        teacher_features=_teacher_features(arrays),
    )


def _volume(arrays: Arrays, name: str, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    return arrays.get(name, np.full(shape, IGNORE, dtype=np.uint8))
