"""Preprocess: the matrices and the pixels of the model's input describe the same picture."""

import numpy as np
import pytest

from cigocc_ros.core.camera import CameraModel
from cigocc_ros.core.errors import FrameError
from cigocc_ros.core.frames import CameraFrame
from cigocc_ros.core.projection import project_points
from cigocc_ros.runtime import preprocess
from cigocc_ros.runtime.preprocess import Preprocessor, fit_camera

CAM_FROM_VELO = np.array([[0.0, -1, 0, 0.02], [0, 0, -1, -0.08], [1, 0, 0, -0.27], [0, 0, 0, 1]])
SOURCE_SIZES = [(1241, 376), (1226, 370), (1920, 1080), (640, 480), (200, 90), (320, 900)]
MODEL_SIZES = [(384, 1280), (192, 640), (96, 320)]


def make_camera(width: int, height: int, focal: float = 0.58) -> CameraModel:
    camera = CameraModel.from_intrinsics(
        focal * width, focal * width, 0.49 * width, 0.46 * height, width, height
    )
    projection = camera.projection.copy()
    projection[:, 3] = [44.9, 0.2, 0.0027]
    return CameraModel(width, height, projection)


def coordinate_image(width: int, height: int) -> np.ndarray:
    """Return an image that is linear in u (red) and v (green): content tells the source pixel."""
    u, v = np.meshgrid(np.arange(width), np.arange(height))
    ramp = np.stack([u * 250.0 / width, v * 250.0 / height, np.full_like(u, 100.0, float)], -1)
    return np.rint(ramp).astype(np.uint8)


def make_frame(width: int, height: int, depth_m: np.ndarray | None = None) -> CameraFrame:
    return CameraFrame(
        image=coordinate_image(width, height),
        camera=make_camera(width, height),
        cam_from_velo=CAM_FROM_VELO,
        stamp_ns=1,
        frame_id='camera',
        depth_m=depth_m,
    )


@pytest.mark.parametrize('width, height', SOURCE_SIZES)
@pytest.mark.parametrize('image_size', MODEL_SIZES)
def test_projected_points_hit_the_resampled_content(width, height, image_size):
    frame = make_frame(width, height)
    arrays = Preprocessor(image_size)(frame)
    rng = np.random.default_rng(7)
    points = rng.uniform([2, -20, -2], [50, 20, 4], (4000, 3))
    source_uv, _, seen = project_points(points, frame.camera, CAM_FROM_VELO)
    matrix = arrays['pixel_from_velo'][0].astype(np.float64)
    homogeneous = points @ matrix[:, :3].T + matrix[:, 3]
    uv = np.rint(homogeneous[:, :2] / homogeneous[:, 2:]).astype(int)
    fit = fit_camera(frame.camera, image_size)
    inside = seen & (uv >= 1).all(1) & (uv < np.array(fit.kept_size)[::-1] - 1).all(1)
    assert inside.sum() > 100
    content = arrays['image'][0, uv[inside, 1], uv[inside, 0]].astype(float)
    expected = source_uv[inside] * 250.0 / np.array([width, height])
    pixel = 250.0 / np.array([width, height]) / np.minimum(1.0, fit.scale)
    assert (np.abs(content[:, :2] - expected) <= 0.5 * pixel + 1.01).all()


@pytest.mark.parametrize('width, height', SOURCE_SIZES)
def test_matrices_are_inverse_and_inputs_keep_the_contract(width, height):
    arrays = Preprocessor((192, 640))(make_frame(width, height))
    assert {name: (a.dtype.name, a.shape) for name, a in arrays.items()} == {
        'image': ('uint8', (1, 192, 640, 3)),
        'depth_prior': ('float32', (1, 192, 640)),
        'pixel_from_velo': ('float32', (1, 3, 4)),
        'velo_from_pixel': ('float32', (1, 3, 4)),
    }
    assert all(array.flags.c_contiguous for array in arrays.values())
    forward, back = (arrays[n][0].astype(float) for n in ('pixel_from_velo', 'velo_from_pixel'))
    u, v, d = 300.25, 71.5, 17.0
    point = back[:, :3] @ [d * u, d * v, d] + back[:, 3]
    x, y, w = forward[:, :3] @ point + forward[:, 3]
    assert (x / w, y / w, w) == pytest.approx((u, v, d), abs=2e-3)


def test_kitti_image_is_padded_not_scaled_in_full_config():
    fit = fit_camera(make_camera(1241, 376), (384, 1280))
    assert (fit.scale, fit.crop_top, fit.kept_size) == (1.0, 0, (376, 1241))
    image = coordinate_image(1241, 376)
    fitted = fit.apply(image)
    np.testing.assert_array_equal(fitted[:376, :1241], image)
    assert not fitted[376:].any() and not fitted[:, 1241:].any()
    np.testing.assert_array_equal(fit.camera_in.projection, make_camera(1241, 376).projection)


def test_crop_centres_the_principal_row_and_stays_inside():
    tall = CameraModel.from_intrinsics(900, 900, 960, 540, 1920, 1080)
    fit = fit_camera(tall, (192, 640))
    assert fit.scaled_size == (360, 640)
    assert abs(float(fit.camera_in.intrinsics[1, 2]) - 96) <= 0.5
    low = CameraModel.from_intrinsics(900, 900, 960, 1079, 1920, 1080)
    assert fit_camera(low, (192, 640)).crop_top == 360 - 192
    high = CameraModel.from_intrinsics(900, 900, 960, 3, 1920, 1080)
    assert fit_camera(high, (192, 640)).crop_top == 0


@pytest.mark.parametrize('width, height', SOURCE_SIZES)
def test_depth_takes_source_values_and_agrees_with_the_image(width, height):
    u = np.broadcast_to(np.arange(width, dtype=np.float32) + 1, (height, width))
    depth = np.where(np.arange(height)[:, None] % 2 == 0, u, 0).astype(np.float32)
    fit = fit_camera(make_camera(width, height), (192, 640))
    fitted = fit.apply_depth(depth)
    rows, columns = fit.kept_size
    assert fitted.dtype == np.float32 and fitted.shape == (192, 640)
    assert np.isin(fitted, depth).all()
    assert not fitted[rows:].any() and not fitted[:, columns:].any()
    centre = (np.arange(columns) + 0.5) * width / columns + 0.5
    found = fitted[:rows, :columns].max(0)
    assert (np.abs(found - centre) <= 0.5 + 1e-3)[found > 0].all()


def test_nearest_fill_marks_what_the_camera_does_not_see():
    fit = fit_camera(make_camera(200, 90), (192, 640))
    fitted = fit.apply_nearest(np.zeros((90, 200), np.uint8), 255)
    assert (fitted == 0).sum() == 90 * 200 and (fitted == 255).sum() == 192 * 640 - 90 * 200


def test_no_depth_is_unknown_everywhere():
    assert not Preprocessor((96, 320))(make_frame(1241, 376))['depth_prior'].any()


def test_tables_are_cached_by_value(monkeypatch):
    calls = []
    compute = preprocess.calibration_tables
    monkeypatch.setattr(
        preprocess, 'calibration_tables', lambda *a: calls.append(1) or compute(*a)
    )
    preprocessor = Preprocessor((96, 320))
    first = preprocessor(make_frame(1241, 376))
    again = preprocessor(make_frame(1241, 376))
    assert len(calls) == 1 and again['pixel_from_velo'] is first['pixel_from_velo']
    moved = CAM_FROM_VELO.copy()
    moved[0, 3] += 1e-9
    preprocessor.tables(make_camera(1241, 376), moved)
    preprocessor.tables(make_camera(1241, 376, focal=0.6), CAM_FROM_VELO)
    assert len(calls) == 3
    for step in range(2 * preprocess.CACHED_CALIBRATIONS):
        moved = moved.copy()
        moved[1, 3] += step + 1
        preprocessor.tables(make_camera(1241, 376), moved)
    assert len(preprocessor._tables) == preprocess.CACHED_CALIBRATIONS


def test_cached_matrices_cannot_be_overwritten():
    arrays = Preprocessor((96, 320))(make_frame(1241, 376))
    with pytest.raises(ValueError, match='read-only'):
        arrays['pixel_from_velo'][0, 0, 0] = 1.0


def test_image_of_another_size_is_refused():
    fit = fit_camera(make_camera(1241, 376), (96, 320))
    with pytest.raises(FrameError, match=r'\(376, 1241\).*\(370, 1226\)'):
        fit.apply(coordinate_image(1226, 370))


def test_nan_depth_is_refused_before_the_network():
    depth = np.full((376, 1241), np.nan, np.float32)
    with pytest.raises(FrameError, match='finite'):
        make_frame(1241, 376, depth)
