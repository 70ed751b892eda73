import numpy as np
import pytest

from cigocc_ros.core.camera import (
    CameraModel,
    camera_from_info,
    stereo_focal_baseline,
    stereo_pair,
)
from cigocc_ros.core.errors import CalibrationError
from cigocc_ros.core.projection import project_points

K = np.array([[700.0, 0, 600], [0, 710.0, 180], [0, 0, 1]])
P = np.hstack([K, np.array([[45.0], [-0.1], [0.004]])])
POINTS = np.array([[0.3, -0.2, 5.0], [-2.0, 0.5, 9.0], [1.0, 1.0, 30.0]])
IDENTITY = np.eye(4)


def pixels(camera, points=POINTS):
    return project_points(points, camera, IDENTITY)[0]


def test_crop_shifts_pixels():
    camera = CameraModel(1241, 376, P)
    cropped = camera.crop(10, 6, 1220, 370)
    np.testing.assert_allclose(pixels(cropped), pixels(camera) - [10, 6])
    assert (cropped.width, cropped.height) == (1220, 370)
    with pytest.raises(CalibrationError, match='does not lie in 1241x376'):
        camera.crop(30, 0, 1220, 370)


def test_rescale_maps_image_borders_onto_image_borders():
    camera = CameraModel(1241, 376, P)
    half = camera.rescale(600, 200)
    expected = (pixels(camera) + 0.5) * [600 / 1241, 200 / 376] - 0.5
    np.testing.assert_allclose(pixels(half), expected)
    np.testing.assert_allclose(half.rescale(1241, 376).projection, P, atol=1e-9)


def test_crop_then_rescale_equals_rescale_then_crop():
    camera = CameraModel(1240, 376, P)
    one = camera.crop(8, 4, 1224, 368).rescale(612, 184)
    other = camera.rescale(620, 188).crop(4, 2, 612, 184)
    np.testing.assert_allclose(one.projection, other.projection)


def test_flip_mirrors_pixels_of_the_mirrored_world():
    camera = CameraModel(1241, 376, P)
    mirrored = POINTS * [-1, 1, 1]
    expected = np.array([1240, 0]) + pixels(camera) * [-1, 1]
    np.testing.assert_allclose(pixels(camera.flipped(), mirrored), expected)
    np.testing.assert_allclose(camera.flipped().flipped().projection, P)


def test_value_equality_hash_and_immutability():
    one, other = CameraModel(1241, 376, P), CameraModel(1241, 376, P.copy())
    assert one == other and hash(one) == hash(other)
    assert one != CameraModel(1241, 376, P + 1e-9)
    assert one != CameraModel(1240, 376, P)
    with pytest.raises(ValueError, match='read-only'):
        one.projection[0, 0] = 1


def test_camera_info_roi_binning_and_fallback_to_k():
    camera = camera_from_info(
        1280, 720, K.ravel(), np.zeros(12), roi=(100, 50, 640, 360), binning=(2, 2)
    )
    assert (camera.width, camera.height) == (320, 180)
    full = CameraModel(1280, 720, np.hstack([K, np.zeros((3, 1))]))
    expected = (pixels(full) - [100, 50] + 0.5) / 2 - 0.5
    np.testing.assert_allclose(pixels(camera), expected)
    assert camera_from_info(1280, 720, K.ravel(), P.ravel(), binning=(0, 0)).offset[0] == 45.0


@pytest.mark.parametrize('bad', [np.zeros((3, 4)), np.full((3, 4), np.nan), P[:, :3]])
def test_uncalibrated_cameras_are_refused(bad):
    with pytest.raises(CalibrationError):
        CameraModel(1241, 376, bad)
    with pytest.raises(CalibrationError, match='calibrate'):
        camera_from_info(1241, 376, np.zeros(9), np.zeros(12))


def test_stereo_focal_baseline_is_exact_and_checked():
    right = P.copy()
    right[0, 3] -= 380.348
    left, right_camera = CameraModel(1241, 376, P), CameraModel(1241, 376, right)
    assert stereo_focal_baseline(left, right_camera) == pytest.approx(380.348, abs=1e-9)
    with pytest.raises(CalibrationError, match='exchanged'):
        stereo_focal_baseline(right_camera, left)


def camera(fx=700.0, fy=700.0, cx=600.0, cy=180.0, p=(0.0, 0.0, 0.0), size=(1241, 376)):
    return CameraModel(*size, np.array([[fx, 0, cx, p[0]], [0, fy, cy, p[1]], [0, 0, 1, p[2]]]))


def test_a_pair_tells_how_its_principal_points_differ():
    pair = stereo_pair(camera(cx=600), camera(cx=580, p=(-378, 0.5, 0.001)))
    assert pair == (378, 20)
    assert stereo_pair(camera(p=(45, 0, 0)), camera(p=(-333, 0, 0))).focal_baseline == 378


@pytest.mark.parametrize(
    ('right', 'words'),
    [
        ({'fx': 703.0, 'fy': 703.0}, 'not of one rectification'),
        ({'fy': 705.0}, 'not of one rectification'),
        ({'cy': 181.0}, 'not of one rectification'),
        ({'size': (1241, 370)}, 'no rectified pair'),
        ({'p': (0, 0, 0)}, 'exchanged'),
        ({'p': (378, 0, 0)}, 'exchanged'),
        ({'p': (0, -378, 0)}, 'exchanged'),  # the lower camera of a vertical pair
        ({'p': (-378, -378, 0)}, 'vertical'),
        ({'p': (-378, 0, 0.2)}, 'beside'),
        ({'p': (-378000, 0, 0)}, '540 m apart'),  # a baseline in millimetres
        ({'p': (-0.54, 0, 0)}, 'apart'),  # -b instead of -f*b
    ],
)
def test_what_cannot_be_one_rectified_pair_is_refused(right, words):
    with pytest.raises(CalibrationError, match=words):
        stereo_pair(camera(), camera(**{'p': (-378, 0, 0), **right}))


def test_a_centred_camera_stands_where_its_frame_is():
    right = camera(p=(-378, 0, 0))
    assert right.centred() == camera()
    assert camera().centred() is not None and right.offset[0] == -378
