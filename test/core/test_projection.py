import io

import numpy as np
import pytest

from cigocc_ros.core.camera import CameraModel
from cigocc_ros.core.errors import CalibrationError
from cigocc_ros.core.grid import SEMANTIC_KITTI_GRID
from cigocc_ros.core.projection import (
    check_transform,
    pixel_from_velo,
    project_points,
    project_voxels,
    unproject,
    velo_from_pixel,
)

P2_00 = np.array(
    [
        [718.856, 0, 607.1928, 45.38225],
        [0, 718.856, 185.2157, -0.1130887],
        [0, 0, 1, 0.003779761],
    ]
)
# KITTI odometry 00, velodyne -> cam0.
TR_00 = np.array(
    [
        [4.276802385584e-04, -9.999672484946e-01, -8.084491683471e-03, -1.198459927713e-02],
        [-7.210626507497e-03, 8.081198471645e-03, -9.999413164504e-01, -5.403984729748e-02],
        [9.999738645903e-01, 4.859485810390e-04, -7.206933692422e-03, -2.921968648686e-01],
        [0, 0, 0, 1],
    ]
)
CAMERA_00 = CameraModel(1241, 376, P2_00).crop(0, 0, 1220, 370)
K_ONLY_00 = CameraModel(1220, 370, P2_00 * [1, 1, 1, 0])


def test_hand_computed_pixel_of_a_point_straight_ahead():
    # Tr [10, 0, 0, 1] = (-0.0077078, -0.1261461, 9.7075418), then P2 with its offset.
    uv, depth, inside = project_points(np.array([10.0, 0, 0]), CAMERA_00, TR_00)
    x_cam = TR_00[:3, 0] * 10 + TR_00[:3, 3]
    z = x_cam[2] + 0.003779761
    assert depth == pytest.approx(z)
    assert uv[0] == pytest.approx((718.856 * x_cam[0] + 607.1928 * x_cam[2] + 45.38225) / z)
    np.testing.assert_allclose(uv, [611.05905, 175.79432], atol=1e-4)
    assert inside


def test_unproject_inverts_project_to_a_thousandth_pixel():
    random = np.random.default_rng(0)
    pixel_uv = random.uniform([0, 0], [1220, 370], (5000, 2))
    depth_m = random.uniform(0.5, 80, 5000)
    points = unproject(pixel_uv, depth_m, CAMERA_00, TR_00)
    again, depth_again, inside = project_points(points, CAMERA_00, TR_00)
    assert np.abs(again - pixel_uv).max() < 1e-9
    assert np.abs(depth_again - depth_m).max() < 1e-9
    assert inside.all()


def test_inverse_matrix_states_the_engine_contract():
    matrix = pixel_from_velo(CAMERA_00, TR_00)
    inverse = velo_from_pixel(matrix)
    u, v, d = 300.0, 200.0, 12.5
    point = inverse[:, :3] @ [d * u, d * v, d] + inverse[:, 3]
    np.testing.assert_allclose(matrix @ [*point, 1], [d * u, d * v, d], rtol=1e-12)


@pytest.mark.parametrize(('camera', 'share'), [(CAMERA_00, 0.6741), (K_ONLY_00, 0.6740)])
def test_share_of_the_half_grid_in_view(camera, share):
    grid = SEMANTIC_KITTI_GRID.with_shape((128, 128, 16))
    _, _, in_image = project_voxels(grid, camera, TR_00)
    assert in_image.mean() == pytest.approx(share, abs=5e-5)


def test_voxel_projection_matches_the_golden_file(shared_dir):
    golden = np.load(shared_dir / 'golden' / 'voxel_projection.npz')
    rows = np.loadtxt(io.StringIO(str(golden['calib_txt'])), usecols=range(1, 13))
    tr = np.vstack([rows[4].reshape(3, 4), [0, 0, 0, 1]])
    camera = CameraModel(1220, 370, np.hstack([golden['camera_matrix'], np.zeros((3, 1))]))
    pixel_uv, depth_m, in_image = project_voxels(SEMANTIC_KITTI_GRID, camera, tr)
    picked = tuple(golden['voxel_ijk'].astype(int).T)
    # The source works in float32 and tests visibility on its rounded pixels.
    assert np.abs(depth_m[picked] - golden['depth_m']).max() < 1e-5
    rounded = np.rint(pixel_uv[picked])
    seen = golden['in_image']
    np.testing.assert_array_equal(rounded[seen], golden['pixel_uv'][seen])
    size = np.array([1220, 370])
    by_rounded = ((rounded >= 0) & (rounded < size)).all(-1) & (depth_m[picked] > 0)
    np.testing.assert_array_equal(by_rounded, seen)
    border = np.minimum(pixel_uv[picked], size - pixel_uv[picked]).min(-1)
    clear = np.abs(border) > 0.5
    np.testing.assert_array_equal(in_image[picked][clear], seen[clear])


def test_points_behind_the_camera_are_not_in_the_image():
    uv, depth, inside = project_points(np.array([[-10.0, 0, 0], [0.2, 0, 0]]), CAMERA_00, TR_00)
    assert not inside.any()
    assert np.isfinite(uv).all() and (depth < 0).all()


def test_only_rigid_transforms_pass():
    check_transform(TR_00, 'extrinsics')
    for bad in (np.zeros((4, 4)), np.diag([1.0, -1, 1, 1]), 2 * np.eye(4), np.eye(3)):
        with pytest.raises(CalibrationError, match='extrinsics'):
            check_transform(bad, 'extrinsics')
