"""Samples: shapes and types, reproducible draws, every frame once per epoch."""

from __future__ import annotations

import numpy as np
import pytest
from torch.utils.data import DataLoader

from cigocc_ros.core.config import ModelConfig
from cigocc_ros.core.errors import DataFileError
from cigocc_ros.training.augmentation import Sample
from cigocc_ros.training.cache import FrameRef, load_frame
from cigocc_ros.training.config import AugmentConfig
from cigocc_ros.training.scene_dataset import SceneDataset, TrainingStream, collate

PLAIN = AugmentConfig(flip=0, jitter=0, prior_none=1, prior_stereo=0, prior_depth=0)


def test_collated_batch_has_the_shapes_of_the_model(
    frames: list[FrameRef], tiny: ModelConfig
) -> None:
    stream = TrainingStream(frames, tiny, AugmentConfig(), seed=0, num_draws=2)
    batch = next(iter(DataLoader(stream, batch_size=2, collate_fn=collate)))
    assert batch.teacher_features is None
    found = {
        name: (tuple(t.shape), str(t.dtype))
        for name, t in batch._asdict().items()
        if t is not None
    }
    assert found == {
        'image': ((2, 48, 160, 3), 'torch.uint8'),
        'depth_prior': ((2, 48, 160), 'torch.float32'),
        'pixel_from_velo': ((2, 3, 4), 'torch.float32'),
        'velo_from_pixel': ((2, 3, 4), 'torch.float32'),
        'labels': ((2, 32, 32, 8), 'torch.uint8'),
        'query_labels': ((2, 16, 16, 4), 'torch.uint8'),
        'masks': ((2, 19, 12, 40), 'torch.uint8'),
        'mask_valid': ((2, 19, 12, 40), 'torch.bool'),
        'depth': ((2, 12, 40), 'torch.float32'),
        'semantic_prior': ((2, 12, 40), 'torch.uint8'),
    }


def test_batch_has_teacher_features_where_all_samples_have(sample: Sample) -> None:
    without = sample._replace(teacher_features=None)
    features = collate([sample, sample]).teacher_features
    assert features is not None and features.shape[0] == 2
    assert collate([sample, without]).teacher_features is None


def test_draws_are_reproducible_and_differ(frames: list[FrameRef], tiny: ModelConfig) -> None:
    one, two = (TrainingStream(frames, tiny, AugmentConfig(), seed=4) for _ in range(2))
    for draw in (0, 7, 100):
        for a, b in zip(one[draw], two[draw], strict=True):
            np.testing.assert_array_equal(a, b)
    assert not np.array_equal(one[0].image, one[3].image)


def test_every_epoch_shows_every_frame_once(frames: list[FrameRef], tiny: ModelConfig) -> None:
    stream = TrainingStream(frames, tiny, PLAIN, seed=1)
    originals = [load_frame(frame)['image'] for frame in frames]
    shown = [
        next(i for i, image in enumerate(originals) if np.array_equal(image, stream[k].image))
        for k in range(9)
    ]
    assert [sorted(shown[k : k + 3]) for k in (0, 3, 6)] == [[0, 1, 2]] * 3


def test_validation_prior_is_what_was_asked_for(frames: list[FrameRef], tiny: ModelConfig) -> None:
    assert not SceneDataset(frames, tiny, prior='none')[0].depth_prior.any()
    assert SceneDataset(frames, tiny, prior='depth')[0].depth_prior.any()


def test_missing_prior_is_an_error_not_a_substitute(
    frames: list[FrameRef], tiny: ModelConfig, tmp_path
) -> None:
    arrays = load_frame(frames[0])
    del arrays['stereo']
    ref = FrameRef(frames[0].sequence, '000000', tmp_path / 'mono.npz')
    np.savez(ref.cached, **arrays)
    with pytest.raises(DataFileError, match='no stereo prior'):
        SceneDataset([ref], tiny, prior='stereo')[0]
    assert not TrainingStream([ref], tiny, PLAIN, seed=0)[0].depth_prior.any()
