"""Another lens or aim is what that camera would have seen; worse pictures stay within bounds."""

from __future__ import annotations

import dataclasses

import fixtures_boxes
import numpy as np
import pytest

from cigocc_ros.core.arrays import Arrays
from cigocc_ros.core.camera import CameraModel
from cigocc_ros.core.config import ModelConfig
from cigocc_ros.core.errors import ConfigError
from cigocc_ros.core.projection import pixel_from_velo, velo_from_pixel
from cigocc_ros.training.augmentation import Sample
from cigocc_ros.training.cells import cell_depth, cell_masks
from cigocc_ros.training.config import AugmentConfig
from cigocc_ros.training.image_augmentation import (
    Move,
    blurred,
    draw_move,
    erased,
    move_arrays,
    noisy,
    vary_image,
)
from cigocc_ros.training.image_targets import DENSE_RANGE_M
from cigocc_ros.training.scene_dataset import augmented_sample, make_sample, without_volume

EVERY = AugmentConfig(zoom=0.4, crop=0.3, shift=0.2)
MOVES = [
    Move(1.0, 0.0, 0.0),
    Move(1.31, -20.4, -3.7),
    Move(0.77, 11.2, 9.9),
    Move(1.0, -17.0, 5.0),
    *(draw_move(EVERY, (48, 160), np.random.default_rng(seed)) for seed in range(4)),
]


@pytest.fixture(scope='module')
def street(tiny: ModelConfig) -> Arrays:
    """Street 3 prepared without a volume, its depth as that of a stereo network too."""
    depth, classes = fixtures_boxes.render(
        fixtures_boxes.street(3), fixtures_boxes.camera_of(*tiny.image_size)
    )
    masks, valid = cell_masks(classes)
    prepared = fixtures_boxes.prepared_arrays(tiny, seed=3)
    h, w = depth.shape[0] // 4, depth.shape[1] // 4
    rows, columns = (np.eye(cells, dtype=np.float32) for cells in (h, w))
    grid = np.random.default_rng(0).standard_normal((tiny.semantic_channels, h, w))
    return prepared | {
        'depth_stereo': depth.astype(np.float16),
        'classes': classes,
        'classes_are_sparse': np.array(False),
        'weak_masks': np.packbits(masks),
        'weak_valid': np.packbits(valid),
        'semantic_prior': np.where(valid[0], masks.argmax(0) + 1, 0).astype(np.uint8),
        'teacher_grid': grid.astype(np.float16),
        'teacher_rows': rows,
        'teacher_columns': columns,
    }


def flat_sample(arrays: Arrays, tiny: ModelConfig) -> Sample:
    prior = arrays['measured'].astype(np.float32)
    return without_volume(make_sample(arrays, tiny, prior), arrays, tiny, 'depth')


@pytest.mark.parametrize('move', MOVES)
def test_points_land_where_the_moved_image_shows_them(move: Move, street: Arrays) -> None:
    """The image says in its colours which pixel it was."""
    height, width = street['image'].shape[:2]
    v, u = np.indices((height, width))
    painted = np.stack([u, v, np.full_like(u, 200)], -1).astype(np.uint8)
    moved = move_arrays(street | {'image': painted}, move)
    rng = np.random.default_rng(5)
    points = np.c_[rng.uniform(4, 50, 4000), rng.uniform(-20, 20, 4000), rng.uniform(-2, 3, 4000)]
    before, after = (projected(one['pixel_from_velo'], points) for one in (street, moved))
    np.testing.assert_allclose(after[:, 0], move.scale * before[:, 0] + move.right, atol=1e-6)
    np.testing.assert_allclose(after[:, 1], move.scale * before[:, 1] + move.down, atol=1e-6)
    both = inside(before, (height, width), 1) & inside(after, (height, width), 1)
    assert both.sum() > 100
    column, row = np.rint(after[both]).astype(int).T
    shown = moved['image'][row, column]
    assert (shown[:, 2] == 200).all()
    slack = 0.5 / move.scale + 1.1  # of the rounded pixel, and of its colour
    assert np.abs(shown[:, :2] - before[both]).max() <= slack


@pytest.mark.parametrize('move', MOVES)
def test_moved_targets_are_those_of_a_camera_with_that_lens(
    move: Move, street: Arrays, tiny: ModelConfig
) -> None:
    height, width = tiny.image_size
    camera = fixtures_boxes.camera_of(height, width)
    lens = CameraModel(width, height, move.matrix @ camera.projection)
    depth, classes = fixtures_boxes.render(fixtures_boxes.street(3), lens)
    moved = flat_sample(move_arrays(street, move), tiny)
    assert moved.extra is not None
    expected = pixel_from_velo(lens, fixtures_boxes.CAM_FROM_VELO)
    np.testing.assert_allclose(moved.pixel_from_velo, expected, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(moved.velo_from_pixel, velo_from_pixel(expected), atol=1e-5)
    agree(moved.depth_prior, depth)
    agree(moved.depth, cell_depth(depth))
    agree(moved.extra.depth, cell_depth(np.where(depth < DENSE_RANGE_M, depth, 0)))
    shows = moved.extra.classes != 255
    assert shows.mean() > 0.2 and (moved.extra.classes == classes)[shows].mean() > 0.97
    masks, valid = cell_masks(classes)
    for found, known in ((moved.masks, moved.mask_valid), (moved.extra.masks, moved.extra.valid)):
        both = known & valid
        assert both.mean() > 0.15 and (found == masks)[both].mean() > 0.97
    said = (moved.semantic_prior > 0) & valid[0]
    named = np.take_along_axis(masks, moved.semantic_prior[None].astype(int) - 1, 0)[0]
    assert named[said].mean() > 0.85


def test_what_a_moved_picture_does_not_show_is_unknown(street: Arrays, tiny: ModelConfig) -> None:
    moved = flat_sample(move_arrays(street, Move(0.5, 0.0, 0.0)), tiny)  # the top left quarter
    height, width = moved.image.shape[:2]
    beyond, cells = np.s_[height // 2 + 1 :, :], np.s_[..., height // 8 + 1 :, :]
    assert not moved.image[beyond].any() and not moved.depth_prior[beyond].any()
    assert not moved.mask_valid[cells].any() and not moved.depth[cells].any()
    assert not moved.semantic_prior[cells].any()
    assert moved.teacher_features is not None and moved.extra is not None
    assert np.isnan(moved.teacher_features[cells]).all()
    assert not moved.extra.valid[cells].any() and (moved.extra.classes[beyond] == 255).all()
    assert not moved.extra.depth[cells].any()
    assert moved.image[: height // 2, : width // 2].any()


def test_features_move_with_their_cells(street: Arrays, tiny: ModelConfig) -> None:
    features = flat_sample(street, tiny).teacher_features
    moved = flat_sample(move_arrays(street, Move(1.0, 8.0, -4.0)), tiny).teacher_features
    assert moved is not None and features is not None  # two cells right, one up
    np.testing.assert_array_equal(moved[:, :-1, 2:], features[:, 1:, :-2])
    assert np.isnan(moved[:, -1]).all() and np.isnan(moved[:, :, :2]).all()


def test_volumes_stay_and_frames_with_one_move_too(arrays: Arrays, tiny: ModelConfig) -> None:
    """Their masks are known by cell alone."""
    moved = move_arrays(arrays, Move(1.0, 8.0, -4.0))
    assert moved['labels'] is arrays['labels']
    assert moved['query_labels'] is arrays['query_labels']
    prior = np.zeros(tiny.image_size, dtype=np.float32)
    before, after = (make_sample(one, tiny, prior) for one in (arrays, moved))
    np.testing.assert_array_equal(after.masks[..., :-1, 2:], before.masks[..., 1:, :-2])
    assert not after.mask_valid[..., :2].any()


def test_drawn_moves_keep_to_their_limits() -> None:
    rng = np.random.default_rng(0)
    size = (96, 320)
    zooms = [draw_move(AugmentConfig(zoom=0.5), size, rng) for _ in range(300)]
    assert 1 / 1.5 <= min(m.scale for m in zooms) < 0.7
    assert 1.4 < max(m.scale for m in zooms) <= 1.5
    for move in zooms:  # about the middle of the picture
        assert move.scale * 159.5 + move.right == pytest.approx(159.5)
        assert move.scale * 47.5 + move.down == pytest.approx(47.5)
    for move in (draw_move(AugmentConfig(crop=0.4), size, rng) for _ in range(300)):
        corners = np.array([[-0.5, -0.5], [319.5, 95.5]])
        back = (corners - [move.right, move.down]) / move.scale
        assert back[0].min() >= -0.5 - 1e-9 and (back[1] <= [319.5 + 1e-9, 95.5 + 1e-9]).all()
        assert 1 <= move.scale <= 1 / 0.6
    for move in (draw_move(AugmentConfig(shift=0.1), size, rng) for _ in range(300)):
        assert move.scale == 1 and abs(move.right) <= 32 and abs(move.down) <= 9.6


def test_nothing_is_drawn_for_what_is_off(arrays: Arrays, tiny: ModelConfig) -> None:
    """Recipes of before draw the same samples as before: a zoom of nothing changes nothing."""
    rngs = [np.random.default_rng(3) for _ in range(2)]
    plain = augmented_sample(arrays, tiny, AugmentConfig(), rngs[0])
    none = dataclasses.replace(AugmentConfig(), zoom=0, crop=0, shift=0, blur=0, noise=0, erase=0)
    again = augmented_sample(arrays, tiny, none, rngs[1])
    for one, other in zip(plain, again, strict=True):
        np.testing.assert_array_equal(one, other)
    assert rngs[0].random() == rngs[1].random()
    picture = plain.image
    assert vary_image(picture, AugmentConfig(), rngs[0]) is picture


@pytest.mark.parametrize('name', ['zoom', 'crop', 'shift', 'blur', 'noise', 'erase'])
def test_each_way_changes_the_image_and_bad_settings_are_refused(
    name: str, arrays: Arrays, tiny: ModelConfig
) -> None:
    still = AugmentConfig(flip=0, jitter=0)
    pictures = [
        augmented_sample(arrays, tiny, one, np.random.default_rng(1)).image
        for one in (still, dataclasses.replace(still, **{name: 0.9}))
    ]
    assert pictures[0].shape == pictures[1].shape
    assert not np.array_equal(*pictures) or name in ('blur', 'noise')  # 0.9 of a pixel or level
    with pytest.raises(ConfigError, match=f'expected {name}'):
        AugmentConfig(**{name: -0.1})
    if name in ('crop', 'shift', 'erase'):
        with pytest.raises(ConfigError, match=f'expected {name}'):
            AugmentConfig(**{name: 1.0})


def test_blur_noise_and_erasing(street: Arrays) -> None:
    rng = np.random.default_rng(0)
    image = street['image']
    soft = blurred(image, 2.0)
    assert (
        np.abs(np.diff(soft.astype(int), axis=1)).mean()
        < 0.7 * np.abs(np.diff(image.astype(int), axis=1)).mean()
    )
    grey = np.full((64, 200, 3), 128, np.uint8)
    assert noisy(grey, 10.0, rng).std() == pytest.approx(10, rel=0.05)
    assert np.array_equal(noisy(grey, 0.0, rng), grey)
    before = image.copy()
    for share in (0.05, 0.3):
        for _ in range(50):
            hidden = (erased(image, share, rng) != image).any(-1).mean()
            assert hidden <= share
    np.testing.assert_array_equal(image, before)
    assert (erased(image, 0.3, rng) != image).any()


def projected(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the pixels (N, 2) of points in front of the camera."""
    homogeneous = points @ matrix[:, :3].astype(float).T + matrix[:, 3]
    return homogeneous[:, :2] / homogeneous[:, 2:]


def inside(pixels: np.ndarray, size: tuple[int, int], border: int) -> np.ndarray:
    limit = np.array(size[::-1]) - 1 - border
    return ((pixels > border) & (pixels < limit)).all(1)


def agree(found: np.ndarray, expected: np.ndarray) -> None:
    """Compare metres where both know them: the nearest pixel of a slope is off by a little."""
    both = (found > 0) & (expected > 0)
    assert both.mean() > 0.2 * (expected > 0).mean()
    assert (np.abs(found - expected) < 0.1 * expected)[both].mean() > 0.95
