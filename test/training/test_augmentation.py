"""Mirroring is exact: it commutes with projection and undoes itself."""

from __future__ import annotations

import numpy as np
import pytest

from cigocc_ros.core.camera import CameraModel
from cigocc_ros.core.prior import PRIORS, Prior
from cigocc_ros.core.projection import pixel_from_velo
from cigocc_ros.training.augmentation import (
    Sample,
    degrade_depth,
    draw_prior,
    flip_projection,
    flip_sample,
    jitter_colors,
)
from cigocc_ros.training.config import AugmentConfig


def project(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    homogeneous = points @ matrix[:, :3].T + matrix[:, 3]
    return homogeneous / homogeneous[:, 2:]


def test_flip_twice_is_identity(sample: Sample) -> None:
    twice = flip_sample(flip_sample(sample))
    assert sample.extra is not None and twice.extra is not None
    pairs = zip([*sample[:-1], *sample.extra], [*twice[:-1], *twice.extra], strict=True)
    for before, after in pairs:
        np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-5)
    once = flip_sample(sample).extra
    assert once is not None
    for before, after in zip(sample.extra, once, strict=True):
        np.testing.assert_array_equal(after, before[..., ::-1])
    assert not np.array_equal(flip_sample(sample).labels, sample.labels)


def test_flip_commutes_with_projection(sample: Sample) -> None:
    points = np.random.default_rng(0).uniform([5, -20, -2], [50, 20, 4], (100, 3))
    flipped = flip_sample(sample)
    before = project(sample.pixel_from_velo, points)
    after = project(flipped.pixel_from_velo, points * [1, -1, 1])
    np.testing.assert_allclose(after[:, 0], sample.image.shape[1] - 1 - before[:, 0], atol=1e-3)
    np.testing.assert_allclose(after[:, 1], before[:, 1], atol=1e-3)


def test_flip_equals_flipping_the_camera() -> None:
    projection = np.array([[700.0, 2, 600, 45], [0, 710, 170, -0.3], [0, 0, 1, 0.005]])
    camera = CameraModel(1226, 370, projection)
    angle = 0.02
    rotation = [[np.sin(angle), -np.cos(angle), 0], [0, 0, -1], [np.cos(angle), np.sin(angle), 0]]
    cam_from_velo = np.eye(4)
    cam_from_velo[:3] = np.hstack([rotation, [[0.1], [-0.08], [-0.27]]])
    mirrored = np.diag([-1.0, 1, 1, 1]) @ cam_from_velo @ np.diag([1.0, -1, 1, 1])
    expected = pixel_from_velo(camera.flipped(), mirrored)
    found = flip_projection(pixel_from_velo(camera, cam_from_velo), camera.width)
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_flipped_inverse_belongs_to_the_flipped_projection(sample: Sample) -> None:
    flipped = flip_sample(sample)
    product = flipped.pixel_from_velo[:, :3] @ flipped.velo_from_pixel[:, :3]
    np.testing.assert_allclose(product, np.eye(3), atol=1e-3)


def test_flip_moves_pixels_depth_and_voxels_together(sample: Sample) -> None:
    """Each measured pixel lands in the same (mirrored) voxel, before and after."""
    flipped = flip_sample(sample)
    for one in (sample, flipped):
        v, u = np.nonzero((one.depth_prior > 2) & (one.depth_prior < 40))
        d = one.depth_prior[v, u]
        points = np.stack([u * d, v * d, d], 1) @ one.velo_from_pixel[:, :3].T
        points += one.velo_from_pixel[:, 3]
        size = np.array([51.2, 51.2, 6.4]) / one.labels.shape
        # Half a voxel behind the surface, along the ray.
        points += 0.4 * points / np.linalg.norm(points, axis=1, keepdims=True)
        index = np.floor((points - [0, -25.6, -2]) / size).astype(int)
        inside = np.all((index >= 0) & (index < one.labels.shape), axis=1)
        assert inside.sum() > 1000
        assert (one.labels[tuple(index[inside].T)] != 0).mean() > 0.9


def test_jitter_keeps_the_image_at_strength_zero_and_is_reproducible(sample: Sample) -> None:
    def jittered(strength: float) -> np.ndarray:
        return jitter_colors(sample.image, strength, np.random.default_rng(5))

    np.testing.assert_allclose(jittered(0.0).astype(int), sample.image, atol=1)
    np.testing.assert_array_equal(jittered(0.4), jittered(0.4))
    assert np.abs(jittered(0.4).astype(int) - sample.image).mean() > 2


def test_degraded_depth_stays_close_where_it_stays(sample: Sample) -> None:
    prior = degrade_depth(sample.depth_prior, np.random.default_rng(0))
    kept = prior > 0
    assert 0 < kept.sum() < (sample.depth_prior > 0).sum()
    assert (sample.depth_prior[kept] > 0).all()
    relative = prior[kept] / sample.depth_prior[kept]
    assert np.abs(np.log(relative)).mean() < 0.03


@pytest.mark.parametrize('wanted', PRIORS)
def test_prior_follows_its_fraction(wanted: Prior, sample: Sample) -> None:
    config = AugmentConfig(**{f'prior_{kind}': float(kind == wanted) for kind in PRIORS})
    measured = sample.depth_prior
    available: dict[Prior, np.ndarray] = {
        'depth': measured,
        'stereo': np.full_like(measured, 7),
        'depth_stereo': np.full_like(measured, 9),
    }
    prior = draw_prior(available, config, measured.shape, np.random.default_rng(0))
    assert (prior == 0).all() == (wanted == 'none')
    assert (prior == 7).all() == (wanted == 'stereo')
    assert (prior == 9).all() == (wanted == 'depth_stereo')
    assert (prior > 0).any() == (wanted != 'none')


def test_missing_stereo_gives_its_fraction_away(sample: Sample) -> None:
    rng = np.random.default_rng(0)
    measured = sample.depth_prior
    config = AugmentConfig(prior_none=0, prior_stereo=1, prior_depth=1)
    assert (draw_prior({'depth': measured}, config, measured.shape, rng) > 0).any()
    config = AugmentConfig(prior_none=0, prior_stereo=1, prior_depth=0)
    assert not draw_prior({}, config, (4, 4), rng).any()
