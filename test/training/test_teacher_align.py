"""Teacher output lands on the same cells of the model's input as the image and its masks."""

from __future__ import annotations

import numpy as np
import pytest

from cigocc_ros.core.camera import CameraModel
from cigocc_ros.core.errors import DataFileError
from cigocc_ros.core.labels import IGNORE
from cigocc_ros.runtime.preprocess import fit_camera
from cigocc_ros.training.cells import cell_masks
from cigocc_ros.training.teacher.align import align
from cigocc_ros.training.teacher.exact import CELL_PX, class_shares
from cigocc_ros.training.teacher.output import (
    TeacherOutput,
    as_features,
    cells_of_scale,
    masks_of_classes,
)

ALL = np.ones(19, dtype=bool)
KITTI = CameraModel.from_intrinsics(718.856, 718.856, 607.2, 185.2, 1241, 376)
SIZES = [(48, 160), (192, 640), (384, 1280), (80, 1280)]


def output_of(features: np.ndarray, scale: float, stride: int) -> TeacherOutput:
    origin, step = cells_of_scale(scale, stride)
    shape = (KITTI.height, KITTI.width)
    masks, valid = np.zeros((19, *shape), dtype=bool), np.ones(shape, dtype=bool)
    return TeacherOutput(as_features(features), (origin,) * 2, (step,) * 2, masks, valid)


@pytest.mark.parametrize('size', SIZES)
def test_masks_follow_the_rule_of_class_images(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 21, (24, 78)).astype(np.uint8)
    classes = np.where(coarse == 20, IGNORE, coarse).repeat(16, 0).repeat(16, 1)
    classes = np.ascontiguousarray(classes[: KITTI.height, : KITTI.width])
    classes[150:260, 300:700] = IGNORE
    masks, valid = masks_of_classes(classes)
    output = TeacherOutput(
        as_features(class_shares(classes)), (1.5, 1.5), (4.0, 4.0), masks, valid
    )
    fit = fit_camera(KITTI, size)
    aligned = align(output, ALL, fit)
    expected, known = cell_masks(fit.apply_nearest(classes, IGNORE))
    np.testing.assert_array_equal(aligned.masks, expected)
    np.testing.assert_array_equal(aligned.masks_valid, np.broadcast_to(known, expected.shape))
    assert known.any() and not known.all()


def test_unknown_classes_are_not_valid() -> None:
    knows = np.arange(19) % 2 == 0
    aligned = align(output_of(np.zeros((1, 20, 64)), 1.0, 20), knows, fit_camera(KITTI, (48, 160)))
    np.testing.assert_array_equal(aligned.masks_valid.any((1, 2)), knows)


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize(('scale', 'stride'), [(1.0, 4), (1024 / 1241, 16), (1.5, 16)])
def test_features_stay_at_their_place(size: tuple[int, int], scale: float, stride: int) -> None:
    """Features that hold their own source pixel hold, aligned, the pixel of the model's cell."""
    origin, step = cells_of_scale(scale, stride)
    rows, columns = (int(np.ceil(n * scale / stride)) for n in (KITTI.height, KITTI.width))
    v, u = np.meshgrid(
        origin + step * np.arange(rows), origin + step * np.arange(columns), indexing='ij'
    )
    fit = fit_camera(KITTI, size)
    aligned = align(output_of(np.stack([v, u]), scale, stride), ALL, fit)
    # Independent of align: through the intrinsics, which follow the image.
    height, width = aligned.features.shape[1:]
    centre_v, centre_u = np.indices((height, width)) * 4 + 1.5
    source, fitted = KITTI.intrinsics, fit.camera_in.intrinsics
    for found, centre, axis in ((0, centre_v, 1), (1, centre_u, 0)):
        ray = (centre - fitted[axis, 2]) / fitted[axis, axis]
        expected = ray * source[axis, axis] + source[axis, 2]
        inside = (expected > step) & (expected < (KITTI.height, KITTI.width)[found] - 2 * step)
        inside &= aligned.features_valid
        assert inside.any()
        np.testing.assert_allclose(aligned.features[found][inside], expected[inside], atol=0.6)


def test_padding_is_outside() -> None:
    fit = fit_camera(KITTI, (384, 1280))
    aligned = align(output_of(np.ones((3, 94, 311)), 1.0, 4), ALL, fit)
    assert aligned.features_valid[0].sum() == 310 and aligned.features_valid[:, 0].sum() == 94
    assert (aligned.features[:, aligned.features_valid] == 1).all()
    assert (aligned.features[:, ~aligned.features_valid] == 0).all()
    assert not aligned.masks_valid[:, ~aligned.features_valid].any()


def test_output_of_another_image_is_refused() -> None:
    other = KITTI.crop(0, 0, 1226, 370)
    with pytest.raises(DataFileError, match=r'\(376, 1241\).*\(370, 1226\)'):
        align(output_of(np.zeros((1, 4, 4)), 1.0, 4), ALL, fit_camera(other, (48, 160)))


def test_class_shares_count_pixels() -> None:
    classes = np.full((6, 9), 9, dtype=np.uint8)
    classes[:4, :4] = np.repeat([1, 1, 0, IGNORE], CELL_PX)[: 4 * CELL_PX].reshape(4, 4)
    classes[4:, 8:] = 13
    shares = class_shares(classes)
    assert shares.shape == (20, 2, 3)
    assert (shares[1, 0, 0], shares[0, 0, 0], shares[:, 0, 0].sum()) == (0.5, 0.25, 0.75)
    assert shares[13, 1, 2] == 1 and shares[9, 0, 1] == 1 and shares[9, 1, 2] == 0
