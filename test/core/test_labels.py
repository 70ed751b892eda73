import numpy as np
import pytest

from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.labels import (
    CLASS_NAMES,
    IGNORE,
    NUM_CLASSES,
    PALETTE_RGB,
    VOXEL_COUNTS,
    class_weights,
    coarsen_labels,
    raw_from_train,
    train_from_raw,
)

PUBLISHED_WEIGHTS = [
    0.0446, 0.0603, 0.0852, 0.0856, 0.0747, 0.0734, 0.0801, 0.0796, 0.0818, 0.0557,
    0.0653, 0.0568, 0.0683, 0.0560, 0.0603, 0.0530, 0.0688, 0.0574, 0.0716, 0.0786,
]  # fmt: skip
SUBMISSION_IDS = [
    0, 10, 11, 15, 18, 20, 30, 31, 32, 40, 44, 48, 49, 50, 51, 70, 71, 72, 80, 81,
]  # fmt: skip


def test_twenty_classes_with_the_published_weights_and_shares():
    assert NUM_CLASSES == 20 and CLASS_NAMES[0] == 'empty' and CLASS_NAMES[19] == 'traffic-sign'
    np.testing.assert_allclose(class_weights(), PUBLISHED_WEIGHTS, atol=5e-5)
    share = VOXEL_COUNTS[1:] / VOXEL_COUNTS[1:].sum()
    assert share[14] == pytest.approx(0.39305, abs=1e-5)
    assert len(np.unique(PALETTE_RGB, axis=0)) == 20


def test_raw_and_train_ids_are_inverse_where_both_exist():
    train = np.arange(20, dtype=np.uint8)
    np.testing.assert_array_equal(raw_from_train(train), SUBMISSION_IDS)
    np.testing.assert_array_equal(train_from_raw(raw_from_train(train)), train)


@pytest.mark.parametrize(
    ('raw', 'train'),
    [(0, 0), (1, 255), (52, 255), (99, 255), (252, 1), (255, 8), (254, 6), (258, 4), (60, 9)],
)
def test_merged_moving_and_ignored_ids(raw, train):
    assert train_from_raw(np.array([raw], dtype=np.uint16))[0] == train


def test_unknown_ids_are_named():
    with pytest.raises(DataFileError, match=r'\[7, 300\]'):
        train_from_raw(np.array([10, 7, 300], dtype=np.uint16))
    with pytest.raises(DataFileError, match='255'):
        raw_from_train(np.array([255], dtype=np.uint8))


def block(*values):
    return np.array(values, dtype=np.uint8).reshape(2, 2, 2)


@pytest.mark.parametrize(
    ('values', 'expected'),
    [
        ((255,) * 8, 255),
        ((0,) * 4 + (255,) * 4, 255),
        ((0,) * 5 + (255,) * 3, 0),
        ((0,) * 7 + (1,), 1),
        ((1, 1, 9, 9) + (0,) * 4, 1),
        ((9, 9, 9, 1) + (255,) * 4, 9),
    ],
)
def test_half_resolution_rule(values, expected):
    assert coarsen_labels(block(*values), (2, 2, 2)).item() == expected


def test_big_blocks_need_five_percent_occupied_and_match_brute_force():
    random = np.random.default_rng(1)
    labels = random.choice([0, 0, 0, 255, 9, 15], size=(16, 16, 8)).astype(np.uint8)
    labels[:8, :8, :4] = 0
    labels[0, 0, :4] = 9
    coarse = coarsen_labels(labels, (8, 8, 4))
    assert coarse[0, 0, 0] == 0
    part = labels[8:, 8:, 4:]
    counts = [(part == c).sum() for c in range(1, 20)]
    assert coarse[1, 1, 1] == 1 + int(np.argmax(counts))
    assert (coarsen_labels(np.full((4, 4, 4), IGNORE, np.uint8), (2, 2, 2)) == IGNORE).all()
    with pytest.raises(DataFileError, match='divided'):
        coarsen_labels(labels, (3, 2, 2))
